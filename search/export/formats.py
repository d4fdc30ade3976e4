"""Export formats, and how to load each without Paretofit's service. Torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from paretofit.search.contracts.point import Format

Precision = Literal["float32", "float16"]

INPUT: Final = "image"
"""Name of an ONNX file's input: float32 [batch, channels, height, width], preprocessed."""
BATCH: Final = "batch"
OUTPUT: Final = "logits"
"""Name of its output: float32 [batch, classes]."""


@dataclass(frozen=True, slots=True)
class Form:
    """One file format. `loading` is two lines of Python with `{file}` for the file's name; `packages` are their
    dependencies."""

    title: str
    suffix: str
    media_type: str
    precisions: tuple[Precision, ...]
    packages: tuple[str, ...]
    loading: str

    def snippet(self, file: str) -> str:
        """Two lines of Python that load `file`."""
        return self.loading.replace("{file}", file)


FORMS: Final[dict[Format, Form]] = {
    "safetensors": Form(
        title="weights and architecture, for Paretofit's own `load`",
        suffix=".safetensors",
        media_type="application/octet-stream",
        precisions=("float32",),
        packages=("paretofit[worker]",),
        loading='import paretofit\nnetwork = paretofit.load("{file}")',
    ),
    "torch_export": Form(
        title="torch.export program, dynamic batch",
        suffix=".pt2",
        media_type="application/zip",
        precisions=("float32",),
        packages=("torch",),
        loading='import torch\nnetwork = torch.export.load("{file}").module()',
    ),
    "onnx": Form(
        title="ONNX, dynamic batch",
        suffix=".onnx",
        media_type="application/octet-stream",
        precisions=("float32", "float16"),
        packages=("onnxruntime",),
        loading='import onnxruntime\nsession = onnxruntime.InferenceSession("{file}")',
    ),
    "ncnn": Form(
        title="ncnn, one image at a time: a zip of model.ncnn.param, model.ncnn.bin and metadata.json",
        suffix=".ncnn.zip",
        media_type="application/zip",
        precisions=("float32", "float16"),
        packages=("ncnn",),
        loading='import ncnn, shutil; shutil.unpack_archive("{file}", "{file}.d"); net = ncnn.Net()\n'
        'net.load_param("{file}.d/model.ncnn.param"); net.load_model("{file}.d/model.ncnn.bin")',
    ),
}

TOLERANCE: Final[dict[Precision, float]] = {"float32": 1e-4, "float16": 2e-2}
"""Maximum difference of an export's logits from PyTorch's, relative to the largest magnitude."""


def file_name(key: str, form: Form, precision: str = "float32") -> str:
    """File name of an exported point: its key, the precision unless it is the default, and the format's suffix."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip("-.") or "network"
    return f"{plain}{'' if precision == 'float32' else f'-{precision}'}{form.suffix}"
