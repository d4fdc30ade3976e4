"""Measured latencies as data: what a measurement is, and what a search knows of its candidates. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

BATCH: Final = 1
"""Images of a pass that searches are measured with."""


class Latency(BaseModel):
    """Milliseconds of a pass, over the passes that were timed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    median_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    runs: int = Field(ge=1)


class Measured(BaseModel):
    """A latency with all that it is of: what the cache keeps. `architecture` is its key, `machine` what
    `paretofit.search.latency.devices.describe` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    input_size: tuple[int, int]
    batch: int = Field(default=BATCH, ge=1)
    device: str
    machine: dict[str, Any]
    latency: Latency


class Table(BaseModel):
    """The latencies of a search's candidates on one device, by their keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


def read(path: Path) -> Table:
    """The table in a trial's artifact."""
    return Table.model_validate(json.loads(path.read_bytes()))
