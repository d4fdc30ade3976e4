"""How networks are trained, and at which input sizes: parameters that methods share. Torch-free."""

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
    """The recipe of every network that a method trains.

    Fields of the type `Auto` are chosen by `resolved` where they are left out (`paretofit.search.training.recipe`).
    """

    starts: ClassVar[bool] = True
    unrecorded: ClassVar[dict[str, Any]] = {**recipe.AS_PUBLISHED, "augmentation": None}

    nominal: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Side that the network is laid out for, pixels: smaller ones get fewer downsamplings. "
        "Unset: the dataset's image size.",
    )
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Shorter sides of the input, pixels. Unset: the dataset's image size and 6, 5 and 4 sevenths of it "
        "in multiples of 4 (32/28/24/20, 224/192/160/128).",
    )
    epochs: Auto[int] = Field(
        default=UNSET,
        ge=1,
        le=10_000,
        description="Passes over the training images. Unset: by their number (from scratch 40 for 3,000 images, 20 "
        "for 12,000; from trained weights 10, at least 600 steps and at most 5,000).",
    )
    batch_size: Auto[int] = Field(
        default=UNSET,
        ge=2,
        le=8192,
        description="Images per step. Unset: 64 (from trained weights 32), less for small sets.",
    )
    accumulation: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Parts that a step's images are passed in, one after another, where memory is short. Each part is "
        "normalised by its own statistics.",
    )
    learning_rate: Auto[float] = Field(
        default=UNSET,
        gt=0,
        le=10,
        description="At the first step after the warm-up. Unset: .05 at batch size 64 and in proportion to it; from "
        "trained weights .1, of which all layers but the classifier have a share (backbone_rate).",
    )
    backbone_rate: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1,
        description="Share of the learning rate that all layers but the classifier have. Unset: from trained weights "
        ".1 (.3 where networks share weights), else 1.",
    )
    schedule: Literal["cosine", "thirds"] = Field(
        default="cosine",
        description="How the learning rate falls: to 0 by half a cosine, or to a tenth after each third of the "
        "training.",
    )
    warmup_epochs: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1000,
        description="Epochs in which the learning rate rises from 0 along a line. Unset: 2, or 100 steps if those are "
        "more; from trained weights 5 % of the training.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum of SGD.")
    weight_decay: float = Field(default=5e-4, ge=0, le=0.1, description="L2 penalty of the weights.")
    decay: Literal["dense", "all"] = Field(
        default="dense",
        description="What weight decay acts on: weights of dense convolutions and linear layers (ImageNet), or every "
        "parameter (WideResNet on CIFAR).",
    )
    label_smoothing: Auto[float] = Field(
        default=UNSET,
        ge=0,
        lt=1,
        description="Share of each label that is spread over all classes (full network). Unset: .1.",
    )
    ema_decay: Auto[float] = Field(
        default=UNSET,
        ge=0,
        lt=1,
        description="Decay per step of a moving average of the weights, which is what is kept; 0: the last weights "
        "are. Unset: .99 from trained weights, else 0.",
    )
    clip_norm: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1e6,
        description="Norm that the gradient of all parameters is limited to; 0: no limit. Unset: 5.",
    )
    effort: Auto[Literal["tune", "probe"]] = Field(
        default=UNSET,
        description="From trained weights: tune trains all layers; probe the classifier and the batch norms' scales "
        "and shifts. Unset: probe with fewer than 20 training images per class.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Of the passes in training. auto: bfloat16 on GPUs that compute it, else float32. float16 scales "
        "the loss.",
    )
    augmentation: Auto[Augmentation] = Field(
        default=UNSET,
        description="Of training images. Unset: photos (color, more than 64 pixels) are cropped at random areas of 35 "
        "% or more, other images are padded by 1/8 of their size, by reflection, and cropped at random; both are "
        "flipped.",
    )
    calibration_images: int = Field(
        default=2000,
        ge=16,
        le=100_000,
        description="Training images from which the batch norm statistics of every network are taken.",
    )
    antialias: bool = Field(default=False, description="Low-pass filter when images are made smaller (the paper: no).")

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
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be less than the {self.epochs} epochs")
        if self.batch_size is not None and self.batch_size < 2 * self.accumulation:
            raise ValueError(
                f"accumulation: {self.accumulation} parts of {self.batch_size} images are too small to normalize by; "
                f"use at most {self.batch_size // 2}, or a larger batch_size"
            )
        if self.effort == "probe" and self.start is None:
            raise ValueError("effort: probe trains the classifier of trained weights: give a start, or use tune")
        return self

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """These parameters with a value for each that was left out. Raises ValueError for parameters that fit neither
        the dataset nor the start."""
        chosen = recipe.training(dataset, dict(self), started=start is not None)
        if start is not None and self.nominal is None:
            chosen["nominal"] = start.nominal or min(dataset.image_size)
        return self.checked(chosen)

    def checked(self, changes: Mapping[str, Any]) -> Self:
        """A copy with other values, validated. Raises ValueError naming the first that is wrong."""
        try:
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            message = str(first["msg"]).removeprefix("Value error, ")
            raise ValueError(f"{place}: {message}" if place else message) from error

    @property
    def fixes_statistics(self) -> bool:
        """Whether batch norm keeps the statistics of trained weights in training. Not where networks share weights, or
        have masks or shape adaptors: their statistics differ."""
        return False

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        del dataset
        return self.epochs

    def sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """The resolutions that networks are found at, largest first. Raises ValueError for one beyond the dataset's
        image size."""
        size = min(dataset.image_size)
        if self.resolutions is None:
            return tuple(dict.fromkeys([size, *(max(8, round(size * part / 28) * 4) for part in (6, 5, 4))]))
        if self.resolutions[0] > size:
            raise ValueError(
                f"resolutions: {self.resolutions[0]} is beyond the dataset's image size {size}; "
                f"use at most {size}, or add the dataset again with image_size {self.resolutions[0]}"
            )
        return self.resolutions

    def augment(self, dataset: DatasetProfile) -> Augmentation:
        """What training images go through. Specifications of an earlier version, which have no augmentation, pad all
        images."""
        return self.augmentation or recipe.padded(dataset)

    def preprocessing(self, dataset: DatasetProfile) -> Preprocessing:
        """How its networks get their images."""
        return Preprocessing(
            crop=dataset.image_size,
            mean=dataset.mean,
            std=dataset.std,
            frame=self.augment(dataset).frame,
            antialias=self.antialias,
        )

    def check_batch(self, dataset: DatasetProfile) -> None:
        """Raises ValueError for a dataset that is smaller than a batch."""
        if self.batch_size > dataset.images["train"]:
            raise ValueError(
                f"batch_size: {self.batch_size} is more than the dataset's {dataset.images['train']} training images; "
                "use at most that many"
            )


def input_size(dataset: DatasetProfile, side: int) -> tuple[int, int]:
    """Height and width, pixels, of the dataset's crop when its shorter side is `side`."""
    height, width = dataset.image_size
    short = min(height, width)
    return round(height * side / short), round(width * side / short)


def tuned(effort: str | None, kind: str) -> dict[str, str]:
    """The effort of a method that trains all layers. Raises ValueError if it was asked to probe."""
    if effort == "probe":
        raise ValueError(f"effort: {kind} trains all layers: use tune, or method fd_mobilenet to probe trained weights")
    return {"effort": "tune"}
