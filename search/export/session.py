"""An exported file, opened by the runtime that it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from search.export import ncnn_file, onnx_file, program_file, weights_file
from search.export.formats import Format
from search.export.network import Array


class Session(Protocol):
    """A network that runs: float32 images [N, C, H, W], contiguous -> logits [N, classes]."""

    def __call__(self, images: Array, /) -> Array: ...


_OPEN: Final[dict[Format, Callable[[Path, int], Session]]] = {
    "safetensors": weights_file.open_file,
    "torch_export": program_file.open_file,
    "onnx": onnx_file.open_file,
    "ncnn": ncnn_file.open_file,
}


def open_session(path: Path, file_format: Format, threads: int = 1) -> Session:
    """A file that `write` wrote, ready to run on the CPU with so many threads.

    The torch formats run with torch's own number of threads, which the caller sets. Raises ValueError or RuntimeError
    for a damaged file, as its runtime does.
    """
    return _OPEN[file_format](path, threads)
