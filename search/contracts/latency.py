"""Latencies as data: devices, measurements, and the latency table of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, TypeAdapter

from paretofit.search.contracts.base import Contract

BATCH: Final = 1
"""Batch size of latency measurements in searches."""


@dataclass(frozen=True, slots=True)
class Device:
    """`runtime` is the distribution that runs networks; `threads` is the number of CPU threads, None for all."""

    runtime: Literal["onnxruntime", "torch", "ncnn"]
    kind: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None


DEVICES: Final[Mapping[str, Device]] = MappingProxyType(
    {
        "onnxruntime-cpu-1t": Device("onnxruntime", threads=1),
        "onnxruntime-cpu-all": Device("onnxruntime"),
        "ncnn-cpu-1t": Device("ncnn", threads=1),
        "ncnn-cpu-all": Device("ncnn"),
        "torch-cpu-1t": Device("torch", threads=1),
        "torch-cpu-all": Device("torch"),
        "torch-cuda": Device("torch", "cuda"),
    }
)


class Latency(Contract):
    """Milliseconds per pass, over the timed passes."""

    median_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    runs: int = Field(ge=1)


class Measured(Contract):
    """A latency with everything it depends on, as stored in the cache. `architecture` is the network's key; `machine`
    is the description by `paretofit.search.latency.devices.describe`."""

    architecture: str
    input_size: tuple[int, int]
    batch: int = Field(default=BATCH, ge=1)
    device: str
    machine: dict[str, Any]
    latency: Latency


class Table(Contract):
    """Latencies of a search's candidates on one device, by candidate key."""

    device: str
    machine: dict[str, Any]
    batch: int = BATCH
    latencies: dict[str, Latency]


_KNOWN: Final = TypeAdapter(list[Measured])


def write_known(path: Path, known: list[Measured]) -> None:
    """Write known measurements to a file for a trial, so that it does not repeat them."""
    path.write_bytes(_KNOWN.dump_json(known))


def read_known(path: Path) -> list[Measured]:
    """Read the file of `write_known`."""
    return _KNOWN.validate_json(path.read_bytes())


def read_table(path: Path) -> Table:
    """The latency table in a trial's artifact."""
    return Table.model_validate_json(path.read_bytes())
