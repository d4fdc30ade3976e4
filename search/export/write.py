"""A network -> a file of a format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from search.export import ncnn_file, onnx_file, program_file, weights_file
from search.export.formats import FORMS, Format, Precision
from search.export.network import Exportable

_WRITE: Final[dict[Format, Callable[[Exportable, Path, Precision], None]]] = {
    "safetensors": weights_file.write,
    "torch_export": program_file.write,
    "onnx": onnx_file.write,
    "ncnn": ncnn_file.write,
}


def write(source: Exportable, file_format: Format, path: Path, precision: Precision = "float32") -> None:
    """Write the network to `path`. Raises ValueError for a precision that the format has not, RuntimeError if its
    converter fails."""
    known = FORMS[file_format].precisions
    if precision not in known:
        raise ValueError(f"precision must be {' or '.join(known)} for {file_format}, not {precision}")
    _WRITE[file_format](source, path, precision)
