"""The module of each format, imported with its packages on first use."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from paretofit.search.contracts.point import Format
from paretofit.search.export.formats import Precision
from paretofit.search.export.network import Array, Exportable


class Session(Protocol):
    """A network that runs: float32 images [N, C, H, W], contiguous -> logits [N, classes]."""

    def __call__(self, images: Array, /) -> Array: ...


class Backend(Protocol):
    """Interface of a format's module."""

    def write(self, source: Exportable, path: Path, precision: Precision) -> None: ...

    def open_file(self, path: Path, threads: int) -> Session: ...


_MODULES: Final[dict[Format, str]] = {
    "safetensors": "paretofit.search.export.weights_file",
    "torch_export": "paretofit.search.export.program_file",
    "onnx": "paretofit.search.export.onnx_file",
    "ncnn": "paretofit.search.export.ncnn_file",
}


def backend(file_format: Format) -> Backend:
    """The module of a format. Raises ImportError without its packages (`pip install 'paretofit[export]'`)."""
    return cast("Backend", import_module(_MODULES[file_format]))
