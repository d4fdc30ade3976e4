"""Exports of points to other formats."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from paretofit.api.schemas.artifacts import Artifact
from paretofit.api.schemas.base import Request, Response

Format = Literal["safetensors", "torch_export", "onnx", "ncnn"]
Precision = Literal["float32", "float16"]
ExportState = Literal["queued", "running", "ready", "failed"]
MAX_SIDE = 1024
Shape = tuple[int, int, int]


class ExportRequest(Request):
    """The format to export a point in. An identical request returns the same export."""

    format: Format
    precision: Precision = "float32"
    input_shape: Shape | None = Field(
        default=None,
        description="Channels, height and width of an image. Unset: the shape that the point was measured with. The "
        "batch size stays dynamic.",
    )


class ExportForm(Response):
    """A format that a point can be exported in."""

    format: Format
    title: str
    precisions: list[Precision]
    packages: list[str] = Field(description="pip requirements of `loading`.")
    loading: str = Field(description="Two lines of Python that load the file.")


class Parity(Response):
    """Difference between the logits of the file and of PyTorch, on normally distributed images."""

    max_abs_diff: float
    max_abs_logit: float = Field(description="Largest magnitude of PyTorch's logits.")
    tolerance: float = Field(description="Largest difference allowed, in proportion to `max_abs_logit`.")
    batches: list[int] = Field(description="Batch sizes compared.")


class Export(Response):
    """A point exported to a file. Once `ready`, it is the artifact with the same id."""

    id: str
    point_id: str
    format: Format
    precision: Precision
    input_shape: Shape
    state: ExportState
    artifact: Artifact | None = Field(description="The file; null until the state is `ready`.")
    parity: Parity | None
    error: dict[str, Any] | None = Field(
        description="Why it failed: `code` is parity, conversion, source, not_installed, crashed or lost. While "
        "queued, the error of the last attempt."
    )
    loading: str = Field(description="Two lines of Python that load the file by its name.")
    created_at: datetime
    updated_at: datetime


class ExportList(Response):
    data: list[Export]
