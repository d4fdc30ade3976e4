"""Augmentation of training images, as data that methods embed in their parameters. Torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Augmentation(BaseModel):
    """Random augmentation, resampled for every batch; the output has the dataset's `image_size`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["pad_crop", "resized_crop", "none"] = Field(
        default="pad_crop",
        description="pad_crop: pad, then crop at random (CIFAR). resized_crop: crop a random area and aspect ratio, "
        "then resize (ImageNet). none: center crop.",
    )
    padding: int = Field(default=4, ge=0, le=128, description="With pad_crop: padding on every side, in pixels.")
    padding_mode: Literal["zeros", "reflect"] = Field(
        default="zeros",
        description="With pad_crop: a black border or mirrored pixels. An image smaller than the crop is first "
        "centered on black, as in evaluation; reflect mirrors beyond that frame.",
    )
    minimum_scale: float = Field(
        default=0.25, gt=0, le=1, description="With resized_crop: smallest and largest fraction of the area."
    )
    flip: bool = Field(default=True, description="Mirror half of the images, left to right.")
    colour_jitter: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Brightness, contrast and saturation change, in random order, each by a factor up to this far "
        "from 1 (ImageNet: 0.4).",
    )
    pca_lighting: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Standard deviation of the color shift along the principal components of ImageNet's colors "
        "(ImageNet: 0.1). No effect on images with one channel.",
    )

    @property
    def frame(self) -> Literal["zeros", "resize"]:
        """How evaluation frames images smaller than the crop, consistent with training
        (`paretofit.search.contracts.point.Preprocessing.frame`)."""
        return "resize" if self.kind == "resized_crop" else "zeros"
