"""torch.export: the network's graph with its weights, for any batch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from paretofit.search.export.formats import Precision
from paretofit.search.export.network import Exportable, TorchSession


def program(network: nn.Module, source: Exportable) -> ExportedProgram:
    """`network`, a form of the source's, as an exported program with one input."""
    # Traced with two images if the batch is dynamic, because torch treats a dimension of 1 as a constant.
    batch = ({0: Dim("batch", min=1)},) if source.batch is None else None
    made = export(network, (source.example(source.batch or 2),), dynamic_shapes=batch)
    for node in made.graph.nodes:
        # Source lines and paths of this machine do not belong in the file.
        node.meta.pop("stack_trace", None)
    return made


def write(source: Exportable, path: Path, precision: Precision) -> None:
    """Write the program, with the record's fields as extra files."""
    assert precision == "float32"
    with path.open("wb") as file:
        torch.export.save(program(source.network, source), file, extra_files=source.metadata())


def open_file(path: Path, threads: int) -> TorchSession:
    """The program as a module; torch requires the suffix `.pt2`. Raises RuntimeError for a damaged file."""
    del threads
    return TorchSession(torch.export.load(path).module())
