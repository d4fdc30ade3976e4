"""Parameters of MutualNet, the networks they span, and presets.

Source: Yang et al., "MutualNet", ECCV 2020 (arXiv 1909.12978) and TPAMI 2021 (arXiv 2105.07085).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.architecture import Architecture
from models.cost import cost
from models.families import registry
from search.data.augmentation import Augmentation
from search.methods.method import Candidate, DatasetProfile, MethodParams

DEMO: dict[str, Any] = {
    "epochs": 3,
    "random_widths": 1,
    "calibration_images": 1024,
    "augmentation": {"kind": "none"},
}
"""For 12,000 small images and two minutes on two cores: too few epochs for crops at random to pay, and one width at random
in each step instead of the paper's two, for a third more steps."""

CIFAR: dict[str, Any] = {
    "family": "wrn_28_10",
    "base_width": 1.0,
    "widths": {"min": 0.9, "max": 1.0},
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "decay": "all",
}
"""The paper's recipe for WRN-28-10 on CIFAR."""

IMAGENET: dict[str, Any] = {
    "family": "mobilenet_v1",
    "base_width": 1.0,
    "epochs": 250,
    "batch_size": 1024,
    "learning_rate": 0.5,
    "weight_decay": 1e-4,
    "augmentation": {"kind": "resized_crop", "minimum_scale": 0.25},
}
"""The paper's recipe for MobileNetV1 on ImageNet, without its colour augmentation."""


class Widths(BaseModel):
    """The width multipliers a network is trained for (any in [min, max]) and swept over (every `step`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float = Field(default=0.25, ge=0.05, le=2, description="Smallest multiplier of the full network's channels.")
    max: float = Field(default=1.0, ge=0.05, le=2, description="Multiplier of the network that teaches the others.")
    step: float = Field(default=0.05, ge=0.01, le=1, description="Distance of the widths that are swept.")

    @model_validator(mode="after")
    def _ordered(self) -> Widths:
        if self.min > self.max:
            raise ValueError(f"widths.min {self.min:g} is above widths.max {self.max:g}: lower min or raise max")
        return self

    def grid(self) -> list[float]:
        """From `min` by `step`, and `max`."""
        count = int((self.max - self.min) / self.step + 1e-6)
        steps = [round(self.min + index * self.step, 6) for index in range(count + 1)]
        return steps if self.max - steps[-1] < 1e-6 else [*steps, self.max]


class MutualNetParams(MethodParams):
    """One network with shared weights, trained to run at every width and input resolution; then every pair of both is
    measured, and the best for each cost are cut out as ordinary networks."""

    summary: ClassVar[str] = "One network for every width and input resolution; the best pair for each budget."
    paper: ClassVar[str] = "Yang et al., MutualNet, ECCV 2020 (arXiv 1909.12978)"
    tiny: ClassVar[dict[str, Any]] = {
        "widths": {"step": 0.25},
        "resolutions": [32, 24],
        "epochs": 1,
        "batch_size": 32,
        "calibration_images": 256,
        "augmentation": {"kind": "none"},
    }
    least_trials: ClassVar[int] = 2
    presets: ClassVar[dict[str, dict[str, Any]]] = {"demo": DEMO, "cifar": CIFAR, "imagenet": IMAGENET}

    kind: Literal["mutualnet"] = "mutualnet"
    family: str = Field(
        default="fd_mobilenet", description="Network family, one that can be narrowed (`GET /v1/families`)."
    )
    base_width: float = Field(
        default=0.25,
        gt=0,
        le=4,
        description="Multiplier of the family's channels that gives the full network; 1 is the paper's network.",
    )
    nominal: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Side that the network is laid out for, pixels: smaller ones get fewer downsamplings. "
        "Unset: the dataset's image size.",
    )
    widths: Widths = Field(default=Widths(), description="Width multipliers, of the full network's channels.")
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Shorter sides of the input, pixels. Unset: the dataset's image size and 6, 5 and 4 sevenths of it "
        "in multiples of 4 (32/28/24/20, 224/192/160/128).",
    )
    random_widths: int = Field(
        default=2, ge=0, le=8, description="Widths drawn at random in each step, besides the largest and the smallest."
    )
    epochs: int = Field(default=20, ge=1, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(default=64, ge=2, le=8192, description="Images per step.")
    learning_rate: float = Field(
        default=0.15,
        gt=0,
        le=10,
        description="At the first step; falls to 0 by a cosine. Scale it with the batch size.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum of SGD.")
    weight_decay: float = Field(default=5e-4, ge=0, le=0.1, description="L2 penalty of the weights.")
    decay: Literal["dense", "all"] = Field(
        default="dense",
        description="What weight decay acts on: weights of dense convolutions and linear layers (ImageNet), or every "
        "parameter (WideResNet on CIFAR).",
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

    @field_validator("family")
    @classmethod
    def _slimmable(cls, value: str) -> str:
        registry.architecture(value, slimmable=True)
        return value

    @field_validator("resolutions")
    @classmethod
    def _descending(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if not all(8 <= side <= 1024 for side in value):
            raise ValueError("each resolution must be from 8 to 1024 pixels")
        return tuple(sorted(set(value), reverse=True))

    def sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """The resolutions on a dataset, largest first. Raises ValueError for one beyond the dataset's image size."""
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

    def architecture(self, dataset: DatasetProfile, width: float = 1.0) -> Architecture:
        """The network at one width multiplier."""
        return _architecture(
            self.family,
            width,
            self.base_width,
            self.nominal or min(dataset.image_size),
            len(dataset.classes),
            dataset.channels,
        )

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Widths x resolutions, without those widths that round to the same channels as a larger one."""
        if self.batch_size > dataset.images["train"]:
            raise ValueError(
                f"batch_size: {self.batch_size} is more than the dataset's {dataset.images['train']} training images; "
                "use at most that many"
            )
        architectures = {self.architecture(dataset, width): width for width in self.widths.grid()}
        return [
            Candidate(
                key=f"w{width:g}-r{side}",
                config={"width": width, "resolution": side},
                input_size=(size := input_size(dataset, side)),
                cost=_cost(architecture, size),
            )
            for side in self.sides(dataset)
            for architecture, width in architectures.items()
        ]


def input_size(dataset: DatasetProfile, side: int) -> tuple[int, int]:
    """Height and width, pixels, of the dataset's crop when its shorter side is `side`."""
    height, width = dataset.image_size
    short = min(height, width)
    return round(height * side / short), round(width * side / short)


@lru_cache(maxsize=4096)
def _architecture(
    family: str, width: float, base_width: float, nominal: int, classes: int, channels: int
) -> Architecture:
    return registry.architecture(
        family,
        width=width,
        slimmable=True,
        base_width=base_width,
        nominal=nominal,
        classes=classes,
        channels=channels,
    )


@lru_cache(maxsize=4096)
def _cost(architecture: Architecture, size: tuple[int, int]) -> dict[str, int]:
    return cost(architecture, size).as_dict()


PARAMS = (MutualNetParams,)
