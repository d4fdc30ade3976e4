"""Parameters of MutualNet and US-Net, and the networks they span.

Source: Yang et al., "MutualNet", ECCV 2020 (arXiv 1909.12978) and TPAMI 2021 (arXiv 2105.07085);
Yu & Huang, "Universally Slimmable Networks" (US-Net), ICCV 2019 (arXiv 1903.05134).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.architecture import Architecture
from models.cost import cost
from models.families import registry
from models.families.scaling import Width
from search.data.augmentation import Augmentation
from search.methods.method import Candidate, DatasetProfile, MethodParams
from search.methods.mutualnet import recipes
from search.methods.mutualnet.sweeping import Sweep
from search.methods.mutualnet.widths import Config, configs, width_of


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


class Baseline(BaseModel):
    """A configuration that is trained on its own, for comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: float = Field(default=1.0, ge=0.05, le=2, description="Multiplier of the full network's channels.")
    resolution: int = Field(ge=8, le=1024, description="Shorter side of the input, pixels, in training and after it.")


class SlimmableParams(MethodParams):
    """What the methods share that train one network with weights for every width."""

    tiny: ClassVar[dict[str, Any]] = {
        "widths": {"step": 0.25},
        "resolutions": [32, 24],
        "epochs": 1,
        "batch_size": 32,
        "calibration_images": 256,
        "augmentation": {"kind": "none"},
    }
    least_trials: ClassVar[int] = 2

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
    granularity: Literal["network", "stage"] = Field(
        default="network",
        description="network: one width for all layers. stage: a width for each stage of the family, in training and in "
        "the sweep, which is then adaptive: `widths.step` gives too many networks to measure all.",
    )
    random_widths: int = Field(
        default=2, ge=0, le=8, description="Widths drawn at random in each step, besides the largest and the smallest."
    )
    goal: Literal["front", "boost"] = Field(
        default="front",
        description="front: the best networks for every cost; boost: the full network alone, made better by its narrower "
        "ones (widths from 0.9), with its gain over the same network trained on its own.",
    )
    baselines: tuple[Baseline, ...] = Field(
        default=(),
        max_length=64,
        description="Configurations that are trained on their own by the same recipe, to compare with: they are reported "
        "beside the front. With goal boost the full network is one of them.",
    )
    baseline_budget: Literal["epochs", "compute"] = Field(
        default="epochs",
        description="epochs: each baseline is trained for as many epochs as the shared network; compute: for so many that "
        "all of them together take its multiply-accumulates.",
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
        description="At the first step after the warm-up; falls to 0 by a cosine. Scale it with the batch size.",
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
    sweep: Sweep = Field(default=Sweep(), description="Which networks are measured when the training is over, and how.")
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be less than the {self.epochs} epochs")
        if self.granularity == "stage" and self.sweep.mode == "grid":
            raise ValueError("sweep.mode: a width for each stage gives too many networks for a grid; use adaptive")
        if self.batch_size < 2 * self.accumulation:
            raise ValueError(
                f"accumulation: {self.accumulation} parts of {self.batch_size} images are too small to normalise by; use "
                f"at most {self.batch_size // 2}, or a larger batch_size"
            )
        return self

    @property
    def stages(self) -> int | None:
        """How many widths a network has of its own; None: one for all."""
        return registry.stages(self.family) if self.granularity == "stage" else None

    def sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """The resolutions that are swept, largest first. Raises ValueError for one beyond the dataset's image size."""
        return self._sides(dataset)

    def trained_sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """The resolutions that training draws from, largest first. Raises ValueError like `sides`."""
        return self._sides(dataset)

    def _sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
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

    def architecture(self, dataset: DatasetProfile, width: Width = 1.0) -> Architecture:
        """The network at one width multiplier, or at one for each stage."""
        return _architecture(
            self.family,
            width,
            self.base_width,
            self.nominal or min(dataset.image_size),
            len(dataset.classes),
            dataset.channels,
        )

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Widths x resolutions, without those widths that round to the same channels as a larger one.

        With granularity `stage` those whose stages are equally wide, among them the cheapest and the dearest of all:
        costs grow with every width.
        """
        if self.batch_size > dataset.images["train"]:
            raise ValueError(
                f"batch_size: {self.batch_size} is more than the dataset's {dataset.images['train']} training images; "
                "use at most that many"
            )
        for baseline in self.baselines:
            if baseline.resolution > min(dataset.image_size):
                raise ValueError(
                    f"baselines: resolution {baseline.resolution} is beyond the dataset's image size "
                    f"{min(dataset.image_size)}; use at most that"
                )
        widths, sides = self.widths.grid(), self.sides(dataset)
        if self.goal == "boost":
            widths, sides = widths[-1:], sides[:1]
        networks = configs(partial(self.architecture, dataset), widths, self.stages)
        return [self.candidate(dataset, {**config, "resolution": side}) for side in sides for config in networks]

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """The network of a configuration: its `width`, or `width_1`, `width_2`, ... of its stages, and `resolution`."""
        width, side = width_of(config), int(config["resolution"])
        widths = width if isinstance(width, tuple) else (width,)
        size = input_size(dataset, side)
        return Candidate(
            key=f"w{'_'.join(f'{each:g}' for each in widths)}-r{side}",
            config=dict(config),
            input_size=size,
            cost=_cost(self.architecture(dataset, width), size),
        )


class MutualNetParams(SlimmableParams):
    """One network with shared weights, trained to run at every width and input resolution; then every pair of both is
    measured, and the best for each cost are cut out as ordinary networks."""

    summary: ClassVar[str] = "One network for every width and input resolution; the best pair for each budget."
    paper: ClassVar[str] = "Yang et al., MutualNet, ECCV 2020 (arXiv 1909.12978)"
    presets: ClassVar[dict[str, dict[str, Any]]] = recipes.MUTUALNET

    kind: Literal["mutualnet"] = "mutualnet"


class UsNetParams(SlimmableParams):
    """One network with shared weights, trained to run at every width at the largest resolution: MutualNet's baseline."""

    summary: ClassVar[str] = "One network for every width, at one input resolution."
    paper: ClassVar[str] = "Yu & Huang, US-Net, ICCV 2019 (arXiv 1903.05134)"
    presets: ClassVar[dict[str, dict[str, Any]]] = recipes.US_NET

    kind: Literal["us_net"] = "us_net"
    plus: bool = Field(
        default=False,
        description="US-Net+: the same weights are measured at every one of `resolutions`, not at the largest alone.",
    )

    def sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """All with `plus`, else the largest alone."""
        return self._sides(dataset) if self.plus else self.trained_sides(dataset)

    def trained_sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """The largest."""
        return self._sides(dataset)[:1]


def input_size(dataset: DatasetProfile, side: int) -> tuple[int, int]:
    """Height and width, pixels, of the dataset's crop when its shorter side is `side`."""
    height, width = dataset.image_size
    short = min(height, width)
    return round(height * side / short), round(width * side / short)


@lru_cache(maxsize=4096)
def _architecture(
    family: str, width: Width, base_width: float, nominal: int, classes: int, channels: int
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


PARAMS = (MutualNetParams, UsNetParams)
