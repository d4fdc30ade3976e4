"""A point: the architecture of a network with its metrics, preprocessing and evaluation conditions."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from pydantic import Field

from paretofit.search.contracts.base import Contract

Format = Literal["safetensors", "torch_export", "onnx", "ncnn"]
"""Formats that a point can be exported in."""
ALL_FORMATS: Final[tuple[Format, ...]] = get_args(Format)


class Preprocessing(Contract):
    """Preprocessing of a stored uint8 image: center crop to `crop`, scale to [0, 1], normalize per channel, resize to
    the input size. The crop's first row is floor((image height - crop height) / 2), negative for a smaller image;
    columns likewise.

    With `frame` "resize", an image whose height or width is smaller than the crop's is treated differently: its largest
    centered box of the crop's aspect ratio is enlarged to the crop, bilinearly with half-pixel centers and
    unrounded."""

    crop: tuple[int, int] = Field(description="Height and width of the center crop, in pixels.")
    frame: Literal["zeros", "resize"] = Field(
        default="zeros",
        description="Treatment of images smaller than the crop. zeros: a black border (also for records without "
        "this field). resize: no border; the largest centered box of the crop's aspect ratio is enlarged to the "
        "crop.",
    )
    mean: tuple[float, ...] = Field(description="Mean per channel, for values in [0, 1].")
    std: tuple[float, ...] = Field(description="Standard deviation per channel, for values in [0, 1].")
    resize: Literal["bilinear"] = "bilinear"
    align_corners: bool = True
    antialias: bool = False


class Evaluation(Contract):
    """Conditions under which an accuracy is reproducible to the image: device kind, batch, dtype, memory format and
    threads."""

    device: str
    batch_size: int
    dtype: str
    memory_format: Literal["contiguous", "channels_last"]
    threads: int


class Point(Contract):
    """One architecture with its metrics. Reporting the same `key` again in a trial replaces the earlier report.

    `metrics` holds at least `selection_top1` (a fraction in [0, 1]), `macs`, `params`, `pool_inputs` and
    `peak_activation_bytes`; `top1` (report split) on front points only. `weights` names an artifact of the same trial:
    the safetensors checkpoint. A point without weights of its own is extracted from `supernet` on request.
    """

    key: str
    architecture: dict[str, Any] = Field(description="Architecture JSON (`paretofit.models.architecture`).")
    input_size: tuple[int, int] = Field(description="Height and width, in pixels.")
    classes: tuple[str, ...]
    config: dict[str, float | int | str] = Field(
        description="The values that the method varied, such as width and resolution."
    )
    metrics: dict[str, float]
    preprocessing: Preprocessing
    evaluation: Evaluation
    provenance: dict[str, Any] = Field(default_factory=dict)
    role: Literal["candidate", "baseline"] = "candidate"
    weights: str | None = None
    supernet: str | None = None
