"""Paretofit's own checkpoint: safetensors, with the point's record in its header."""

from __future__ import annotations

from pathlib import Path

from paretofit.models import checkpoint
from paretofit.search.export.formats import Precision
from paretofit.search.export.network import Exportable, TorchSession


def write(source: Exportable, path: Path, precision: Precision) -> None:
    """Write the network with its record. Raises ValueError if the record belongs to another network."""
    assert precision == "float32"
    checkpoint.save(path, source.network, source.record)


def open_file(path: Path, threads: int) -> TorchSession:
    """The network as `paretofit.load` returns it. Raises CheckpointError."""
    del threads
    return TorchSession(checkpoint.load(path))
