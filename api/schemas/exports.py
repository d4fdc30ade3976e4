"""Points as files of other formats."""

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
    """A form that a point's network is wanted in. The same one again is the same export."""

    format: Format
    precision: Precision = "float32"
    input_shape: Shape | None = Field(
        default=None,
        description="Channels, height and width of an image; unset: those that the point was measured at. Any number "
        "of images makes a batch.",
    )


class ExportForm(Response):
    """A format that a point can be exported in."""

    format: Format
    title: str
    precisions: list[Precision]
    packages: list[str] = Field(description="What `loading` needs, for pip.")
    loading: str = Field(description="Two lines of Python that load the file.")


class Parity(Response):
    """How far the file's logits are from PyTorch's, on normally distributed images."""

    max_abs_diff: float
    max_abs_logit: float = Field(description="The largest magnitude of PyTorch's.")
    tolerance: float = Field(description="The largest difference that is allowed: a share of `max_abs_logit`.")
    batches: list[int] = Field(description="Images of each input.")


class Export(Response):
    """A file that is made of a point. When it is `ready` it is the artifact with the same id."""

    id: str
    point_id: str
    format: Format
    precision: Precision
    input_shape: Shape
    state: ExportState
    artifact: Artifact | None = Field(description="The file; null until the state is `ready`.")
    parity: Parity | None
    error: dict[str, Any] | None = Field(
        description="Why it failed: `code` is parity, conversion, source, not_installed, crashed or lost. While it "
        "waits, why it was tried before."
    )
    loading: str = Field(description="Two lines of Python that load the file under its name.")
    created_at: datetime
    updated_at: datetime


class ExportList(Response):
    data: list[Export]
