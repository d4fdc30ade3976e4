"""Training parameters and input sizes that the methods share. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import UNSET, Auto, MethodParams
from paretofit.search.contracts.point import Preprocessing
from paretofit.search.contracts.start import StartRecord
from paretofit.search.data.augmentation import Augmentation
from paretofit.search.training import recipe


class TrainingParams(MethodParams):
    """Training recipe of every network that a method trains.

    `resolved` chooses values for unset fields of the type `Auto` (`paretofit.search.training.recipe`)."""

    starts: ClassVar[bool] = True
    unrecorded: ClassVar[dict[str, Any]] = {**recipe.AS_PUBLISHED, "augmentation": None}

    nominal: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Input side that the network is laid out for, in pixels: smaller sides get fewer downsamplings. "
        "Unset: the dataset's image size.",
    )
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Shorter sides of the input, in pixels. Unset: the dataset's image size and 6/7, 5/7 and 4/7 of "
        "it, in multiples of 4 (32/28/24/20, 224/192/160/128).",
    )
    epochs: Auto[int] = Field(
        default=UNSET,
        ge=1,
        le=10_000,
        description="Passes over the training images. Unset: depends on their number (from scratch 40 for 3,000 "
        "images, 20 for 12,000; from trained weights 10, at least 600 steps and at most 5,000).",
    )
    batch_size: Auto[int] = Field(
        default=UNSET,
        ge=2,
        le=8192,
        description="Images per step. Unset: 64 (from trained weights 32), fewer for small datasets.",
    )
    accumulation: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Number of parts that a step's images are split into, to save memory; gradients accumulate over "
        "them. Batch norm normalizes each part by its own statistics.",
    )
    learning_rate: Auto[float] = Field(
        default=UNSET,
        gt=0,
        le=10,
        description="Learning rate after the warm-up. Unset: 0.05 at batch size 64, scaled linearly with it; from "
        "trained weights 0.1, multiplied by backbone_rate for all layers but the classifier.",
    )
    backbone_rate: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1,
        description="Factor of the learning rate for all layers but the classifier. Unset: from trained weights 0.1 "
        "(0.3 where networks share weights), else 1.",
    )
    schedule: Literal["cosine", "thirds"] = Field(
        default="cosine",
        description="How the learning rate decreases. cosine: to 0 along half a cosine. thirds: by a factor of 10 "
        "after each third of the training.",
    )
    warmup_epochs: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1000,
        description="Epochs in which the learning rate rises linearly from 0. Unset: 2, or 100 steps if those are "
        "more; from trained weights 5% of the training.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum of SGD.")
    weight_decay: float = Field(default=5e-4, ge=0, le=0.1, description="L2 penalty of the weights.")
    decay: Literal["dense", "all"] = Field(
        default="dense",
        description="Parameters that weight decay applies to. dense: weights of dense convolutions and linear "
        "layers (ImageNet). all: every parameter (WideResNet on CIFAR).",
    )
    label_smoothing: Auto[float] = Field(
        default=UNSET,
        ge=0,
        lt=1,
        description="Fraction of each label that is spread over all classes (full network). Unset: 0.1.",
    )
    ema_decay: Auto[float] = Field(
        default=UNSET,
        ge=0,
        lt=1,
        description="Decay per step of the exponential moving average of the weights, which is kept as the result; "
        "0: keep the last weights. Unset: 0.99 from trained weights, else 0.",
    )
    clip_norm: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1e6,
        description="Maximum norm of the gradient of all parameters; 0: no limit. Unset: 5.",
    )
    effort: Auto[Literal["tune", "probe"]] = Field(
        default=UNSET,
        description="From trained weights. tune: train all layers. probe: train the classifier and the batch norms' "
        "scales and shifts. Unset: probe with fewer than 20 training images per class.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Floating-point type of the forward and backward passes in training. auto: bfloat16 on GPUs "
        "that support it, else float32. float16 scales the loss.",
    )
    augmentation: Auto[Augmentation] = Field(
        default=UNSET,
        description="Augmentation of training images. Unset: photos (color, more than 64 pixels) are cropped at "
        "random with 35% or more of the area; other images are padded, by reflection, by 1/8 of their size (from "
        "scratch proportionally less below 40 epochs) and cropped at random; both are flipped.",
    )
    calibration_images: int = Field(
        default=2000,
        ge=16,
        le=100_000,
        description="Training images that recalibrate the batch norm statistics of every network.",
    )
    antialias: bool = Field(default=False, description="Low-pass filter when images are downsampled (paper: off).")

    @field_validator("resolutions")
    @classmethod
    def _descending(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if not all(8 <= side <= 1024 for side in value):
            raise ValueError("each resolution must be from 8 to 1024 pixels")
        return tuple(sorted(set(value), reverse=True))

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        if None not in (self.warmup_epochs, self.epochs) and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs:g} must be less than epochs, {self.epochs}; lower it")
        if self.batch_size is not None and self.batch_size < 2 * self.accumulation:
            raise ValueError(
                f"accumulation: {self.accumulation} parts of {self.batch_size} images are too small for batch "
                f"norm; use at most {self.batch_size // 2}, or a larger batch_size"
            )
        if self.effort == "probe" and self.start is None:
            raise ValueError("effort: probe needs trained weights: give a start, or use tune")
        return self

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """These parameters with a value for every unset field. Raises ValueError for parameters that do not fit the
        dataset or the start."""
        chosen = recipe.training(dataset, dict(self), started=start is not None)
        if start is not None and self.nominal is None:
            chosen["nominal"] = start.nominal or min(dataset.image_size)
        return self.checked(chosen)

    def checked(self, changes: Mapping[str, Any]) -> Self:
        """A validated copy with other values. Raises ValueError that names the first invalid one."""
        try:
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            message = str(first["msg"]).removeprefix("Value error, ")
            raise ValueError(f"{place}: {message}" if place else message) from error

    @property
    def fixes_statistics(self) -> bool:
        """Whether batch norm keeps the statistics of trained weights in training. False where networks share weights or
        have masks or shape adaptors, because their statistics differ."""
        return False

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        del dataset
        return self.epochs

    def sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """Resolutions of the search in pixels, largest first. Raises ValueError for one beyond the dataset's image
        size."""
        size = min(dataset.image_size)
        if self.resolutions is None:
            return tuple(dict.fromkeys([size, *(max(8, round(size * part / 28) * 4) for part in (6, 5, 4))]))
        if self.resolutions[0] > size:
            raise ValueError(
                f"resolutions: {self.resolutions[0]} exceeds the dataset's image size {size}; use at most {size}, "
                f"or add the dataset again with image_size {self.resolutions[0]}"
            )
        return self.resolutions

    def augment(self, dataset: DatasetProfile) -> Augmentation:
        """Augmentation of training images. Specifications of an earlier version, which lack it, pad all images."""
        return self.augmentation or recipe.padded(dataset)

    def preprocessing(self, dataset: DatasetProfile) -> Preprocessing:
        """Preprocessing of its networks' images."""
        return Preprocessing(
            crop=dataset.image_size,
            mean=dataset.mean,
            std=dataset.std,
            frame=self.augment(dataset).frame,
            antialias=self.antialias,
        )

    def check_batch(self, dataset: DatasetProfile) -> None:
        """Raises ValueError if the dataset is smaller than a batch."""
        if self.batch_size > dataset.images["train"]:
            raise ValueError(
                f"batch_size: {self.batch_size} exceeds the dataset's {dataset.images['train']} training images; "
                f"use at most {dataset.images['train']}"
            )


def input_size(dataset: DatasetProfile, side: int) -> tuple[int, int]:
    """Height and width, in pixels, of the dataset's crop scaled to the shorter side `side`."""
    height, width = dataset.image_size
    short = min(height, width)
    return round(height * side / short), round(width * side / short)


def tuned(effort: str | None, kind: str) -> dict[str, str]:
    """The effort of a method that trains all layers. Raises ValueError for `probe`."""
    if effort == "probe":
        raise ValueError(
            f"effort: probe is not available for {kind}: use tune, or method fd_mobilenet to probe trained weights"
        )
    return {"effort": "tune"}
