"""Exports a network to a file."""

from __future__ import annotations

from pathlib import Path

from paretofit.search.contracts.point import Format
from paretofit.search.export.backends import backend
from paretofit.search.export.formats import FORMS, Precision
from paretofit.search.export.network import Exportable


def write(source: Exportable, file_format: Format, path: Path, precision: Precision = "float32") -> None:
    """Write the network to `path`.

    Raises ValueError for a precision that the format lacks, RuntimeError if its converter fails, ImportError without
    its packages.
    """
    known = FORMS[file_format].precisions
    if precision not in known:
        raise ValueError(f"precision: {precision} is not available for {file_format}; use {' or '.join(known)}")
    backend(file_format).write(source, path, precision)
