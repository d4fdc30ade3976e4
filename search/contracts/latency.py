"""Latencies as data: what they are measured on, what a measurement is, and what a search knows of its candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, TypeAdapter

from paretofit.search.contracts.base import Contract

BATCH: Final = 1
"""Images of a pass that searches are measured with."""


@dataclass(frozen=True, slots=True)
class Device:
    """`runtime` is the distribution that computes; `threads` of the CPU, None: all that there are."""

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
    """Milliseconds of a pass, over the passes that were timed."""

    median_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    runs: int = Field(ge=1)


class Measured(Contract):
    """A latency with all that it is of: what the cache keeps. `architecture` is its key, `machine` what
    `paretofit.search.latency.devices.describe` says."""

    architecture: str
    input_size: tuple[int, int]
    batch: int = Field(default=BATCH, ge=1)
    device: str
    machine: dict[str, Any]
    latency: Latency


class Table(Contract):
    """The latencies of a search's candidates on one device, by their keys."""

    device: str
    machine: dict[str, Any]
    batch: int = BATCH
    latencies: dict[str, Latency]


_KNOWN: Final = TypeAdapter(list[Measured])


def write_known(path: Path, known: list[Measured]) -> None:
    """Measurements that need not be repeated, as a file for a trial."""
    path.write_bytes(_KNOWN.dump_json(known))


def read_known(path: Path) -> list[Measured]:
    """What `write_known` wrote."""
    return _KNOWN.validate_json(path.read_bytes())


def read_table(path: Path) -> Table:
    """The table in a trial's artifact."""
    return Table.model_validate_json(path.read_bytes())
