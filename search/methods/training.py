"""How networks are trained, and at which input sizes: parameters that methods share. Torch-free."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from search.data.augmentation import Augmentation
from search.methods.method import DatasetProfile, MethodParams


class TrainingParams(MethodParams):
    """The recipe of every network that a method trains."""

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
    epochs: int = Field(default=20, ge=1, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(default=64, ge=2, le=8192, description="Images per step.")
    accumulation: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Parts that a step's images are passed in, one after another, where memory is short. Each part is "
        "normalised by its own statistics.",
    )
    learning_rate: float = Field(
        default=0.15,
        gt=0,
        le=10,
        description="At the first step after the warm-up. Scale it with the batch size.",
    )
    schedule: Literal["cosine", "thirds"] = Field(
        default="cosine",
        description="How the learning rate falls: to 0 by half a cosine, or to a tenth after each third of the training.",
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, le=1000, description="Epochs in which the learning rate rises from 0 along a line."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum of SGD.")
    weight_decay: float = Field(default=5e-4, ge=0, le=0.1, description="L2 penalty of the weights.")
    decay: Literal["dense", "all"] = Field(
        default="dense",
        description="What weight decay acts on: weights of dense convolutions and linear layers (ImageNet), or every "
        "parameter (WideResNet on CIFAR).",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each label that is spread over all classes (full network)."
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step of a moving average of the weights, which is what is kept. Unset: the last weights.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Of the passes in training. auto: bfloat16 on GPUs that compute it, else float32. float16 scales the "
        "loss.",
    )
    augmentation: Augmentation | None = Field(
        default=None,
        description="Of training images. Unset: reflect padding by 1/8 of the image size, random crop and flip (CIFAR).",
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
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be less than the {self.epochs} epochs")
        if self.batch_size < 2 * self.accumulation:
            raise ValueError(
                f"accumulation: {self.accumulation} parts of {self.batch_size} images are too small to normalise by; use "
                f"at most {self.batch_size // 2}, or a larger batch_size"
            )
        return self

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        del dataset
        return self.epochs

    def sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """The resolutions that networks are found at, largest first. Raises ValueError for one beyond the dataset's image
        size."""
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
        """What training images go through."""
        padding = max(1, min(dataset.image_size) // 8)
        return self.augmentation or Augmentation(kind="pad_crop", padding=padding, padding_mode="reflect")

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
