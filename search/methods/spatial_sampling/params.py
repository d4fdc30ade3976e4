"""Parameters of spatial sampling, and the costs of its networks.

Source: Xie et al., Spatially Adaptive Inference with Stochastic Feature Sampling and Interpolation, ECCV 2020 (arXiv
2003.08866).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost_by_metric
from paretofit.models.families import registry
from paretofit.models.kinds import sampling
from paretofit.models.kinds.sampling import Draw, Fill, Policy
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.latency import DEVICES
from paretofit.search.contracts.params import UNSET, Auto, Candidate, Config, is_unset
from paretofit.search.contracts.point import Format
from paretofit.search.contracts.start import StartRecord
from paretofit.search.methods.spatial_sampling import presets
from paretofit.search.training.params import TrainingParams, input_size, tuned

Baseline = Literal["uniform", "deterministic", "gated"]
Density = Annotated[float, Field(ge=0.001, le=1)]
MEASURED = (0.25, 0.5)
"""Densities, besides 0 and 1, whose latency is measured before networks are trained."""
Gamma = Annotated[float, Field(ge=1e-6, le=100)]


class SpatialSamplingParams(TrainingParams):
    """Residual networks that learn at which positions of an image their features are worth computing. One network is
    trained for each chosen density (or weight of the sparsity loss)."""

    summary: ClassVar[str] = "Residual networks that compute features only where an image needs them."
    paper: ClassVar[str] = "Xie et al., Spatially Adaptive Inference, ECCV 2020 (arXiv 2003.08866)"
    tiny: ClassVar[dict[str, Any]] = presets.TINY
    presets: ClassVar[dict[str, dict[str, Any]]] = presets.PRESETS
    exports: ClassVar[tuple[Format, ...]] = ("safetensors", "torch_export", "onnx")
    learns: ClassVar[bool] = True

    kind: Literal["spatial_sampling"] = "spatial_sampling"
    family: Auto[str] = Field(
        default=UNSET,
        description="resnet18, 34, 50, 101, 152, or for small images a WideResNet wrn_D_K, such as "
        "wrn_28_4, of any depth D = 6 n + 4 and width K. Unset: the family of the start; without a start wrn_16_1.",
    )
    base_width: Auto[float] = Field(
        default=UNSET,
        gt=0,
        le=4,
        description="Width multiplier of the family's channels. Unset: the width of the start; without a start 1.",
    )
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="Shorter side of the input, in pixels; one value. Unset: the dataset's image size.",
    )
    loss: Literal["density", "gamma"] = Field(
        default="density",
        description="density: drives the expected share of the sampled convolutions' multiply-accumulates to a "
        "target. gamma: adds the mean probabilities with a weight, as published.",
    )
    densities: tuple[Density, Density] = Field(
        default=(0.2, 0.7), description="With loss density: range of the target densities."
    )
    gammas: tuple[Gamma, Gamma] = Field(
        default=(0.05, 1.0),
        description="With loss gamma: range of the sparsity weights, sampled on a logarithmic scale. Published: "
        "0.02 to 0.2 in detection, 0.01 and 0.015 in classification.",
    )
    density_weight: float = Field(
        default=10.0, gt=0, le=1000, description="With loss density: weight of the squared difference from the target."
    )
    trials: int = Field(default=4, ge=1, le=1000, description="Number of networks to train, in addition to baselines.")
    parallel_trials: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Networks that are queued or in training at the same time. Fewer let each choice use more results.",
    )
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        max_length=8,
        description="Fixed budgets at which each trained network is measured as well, relative to its densities.",
    )
    draw: Literal["stochastic", "deterministic", "budget"] = Field(
        default="stochastic",
        description="Which positions are computed. stochastic: sampled with their probabilities, by seed. "
        "deterministic: those with a probability of at least 0.5. budget: the most probable ones, the same number "
        "for every image.",
    )
    fill: Fill = Field(
        default="rbf",
        description="Values at the other positions. rbf, learned, average: interpolated from computed neighbors, "
        "weighted by a radial basis function, by a learned kernel or equally. zero: no interpolation, the fastest.",
    )
    window: Literal[3, 5, 7, 9, 11] = Field(default=7, description="Side of the interpolation window, in pixels.")
    grid: int = Field(
        default=7,
        ge=0,
        le=64,
        description="Stride of a grid of positions that are always computed (published: 11); 0: no grid. Not used "
        "with fill zero.",
    )
    tile: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Side of the square tiles that share one mask value, in pixels. 1, a mask value for each "
        "position, suits CPUs; GPUs save time with 8.",
    )
    shared_mask: bool = Field(
        default=False, description="Basic blocks use one mask for both convolutions instead of two."
    )
    final_temperature: float = Field(
        default=0.03,
        gt=0,
        le=1,
        description="Final temperature of the masks; it decreases from 1 by a constant factor per step.",
    )
    baselines: tuple[Baseline, ...] = Field(
        default=(),
        max_length=3,
        description="Networks to train at the first densities for comparison; listed separately from the front. "
        "uniform: the plain network on smaller images. deterministic: masks without noise. gated: masks from a "
        "rectified gate.",
    )
    decay: Literal["dense", "all"] = Field(
        default="dense",
        description="Parameters that weight decay applies to. dense: weights of dense convolutions and linear "
        "layers. all: every parameter.",
    )

    @field_validator("densities", "gammas")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the range must be ascending, not {value[0]:g} to {value[1]:g}; swap the values")
        return value

    @field_validator("shares", "baselines")
    @classmethod
    def _once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _residual(self) -> Self:
        if is_unset(self.family):
            return self
        try:
            sampling.sampled(registry.architecture(self.family, base_width=self.base_width or 1.0), Policy())
        except ValueError as error:
            raise ValueError(f"family: {error}") from error
        return self

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """Fill in the family and width of the start."""
        chosen = {
            "family": "wrn_16_1" if start is None else start.family,
            "base_width": 1.0 if start is None else start.width or 1.0,
        }
        missing = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        found = super().resolved(dataset, start).checked(missing | tuned(self.effort, self.kind))
        if start is not None:
            start.check(found.plain(dataset))
        return found

    def check_devices(self, devices: Sequence[str]) -> None:
        """Latency is that of the deployed form. torch runs the faster of the sparse form and the dense masked form;
        ONNX Runtime runs the latter. Raises ValueError for ncnn, which supports neither."""
        for device in devices:
            if DEVICES[device].runtime == "ncnn":
                others = ", ".join(name for name, other in DEVICES.items() if other.runtime != "ncnn")
                raise ValueError(
                    f"device: {device} cannot run networks with masks, because ncnn lacks the operations; use one "
                    f"of {others}"
                )

    def input_size(self, dataset: DatasetProfile) -> tuple[int, int]:
        """Height and width in pixels. Raises ValueError for a side beyond the dataset's image size."""
        return dataset.image_size if self.resolutions is None else input_size(dataset, self.sides(dataset)[0])

    def plain(self, dataset: DatasetProfile) -> Architecture:
        """The network without masks."""
        return _plain(
            self.family,
            self.base_width,
            self.nominal or min(dataset.image_size),
            len(dataset.classes),
            dataset.channels,
        )

    def masked(self, dataset: DatasetProfile, draw: Draw, density: float, seed: int) -> Architecture:
        """The network with masks of one density."""
        fill: Fill = "zero" if draw == "gated" else self.fill
        policy = Policy(
            density=density,
            draw=draw,
            fill=fill,
            window=self.window,
            grid=0 if draw == "gated" or fill == "zero" else self.grid,
            tile=self.tile,
            seed=seed,
            shared=self.shared_mask,
        )
        return _sampled(self.plain(dataset), policy)

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        """Network of the items `draw`, `mask_seed` and `mask_densities`, which are learned; the plain network for a
        `side`. A candidate, for which only `density` is known, has that density in every layer."""
        if "side" in config:
            return self.plain(dataset)
        if "mask_densities" not in config:
            # Without weights a network samples at random or by budget.
            untrained: Draw = "budget" if self.draw == "budget" else "stochastic"
            return self.masked(dataset, untrained, float(config["density"]), 0)
        draw: Any = config["draw"]
        made = self.masked(dataset, draw, 1.0, int(config["mask_seed"]))
        return sampling.with_densities(made, from_line(str(config["mask_densities"])))

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """Candidate of a configuration that `network` accepts."""
        architecture = self.network(dataset, config)
        size = input_size(dataset, int(config["side"])) if "side" in config else self.input_size(dataset)
        return Candidate(key=key(config), config=dict(config), input_size=size, cost=cost_by_metric(architecture, size))

    def cost(self, dataset: DatasetProfile, density: float, draw: Draw = "stochastic") -> dict[str, int]:
        """Costs of the network with masks of one density."""
        return cost_by_metric(self.masked(dataset, draw, density, 0), self.input_size(dataset))

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Bounds of the learned densities: the smallest network, those at the ends of the range, and the one that
        computes every position."""
        self.check_batch(dataset)
        return self._of_densities(dataset, self.densities if self.loss == "density" else ())

    def measured(self, dataset: DatasetProfile, seed: int) -> list[Candidate]:
        """Networks with one density in every layer, from 0 to 1; latencies of other networks are interpolated from
        theirs."""
        del seed
        self.check_batch(dataset)
        return self._of_densities(dataset, MEASURED)

    def _of_densities(self, dataset: DatasetProfile, densities: Sequence[float]) -> list[Candidate]:
        named = {"least": 0.0, **{f"density-{each:g}": each for each in densities if each < 1}, "all": 1.0}
        size = self.input_size(dataset)
        return [
            Candidate(key=name, config={"density": density}, input_size=size, cost=self.cost(dataset, density))
            for name, density in named.items()
        ]


def key(config: Config) -> str:
    """Key of a network: how it was trained, and its baseline or budget."""
    if "side" in config:
        return f"uniform-{config['side']}"
    trained = f"density-{config['density']}" if "density" in config else f"gamma-{config['gamma']}"
    prefix = f"{config['baseline']}-" if "baseline" in config else ""
    return f"{prefix}{trained}-budget-{config['share']}" if "share" in config else f"{prefix}{trained}"


def to_line(densities: Sequence[float]) -> str:
    """Densities as an item of a configuration."""
    return "-".join(f"{density:.4f}" for density in densities)


def from_line(line: str) -> tuple[float, ...]:
    """Inverse of `to_line`."""
    return tuple(map(float, line.split("-")))


@lru_cache(maxsize=64)
def _plain(family: str, base_width: float, nominal: int, classes: int, channels: int) -> Architecture:
    return registry.architecture(family, base_width=base_width, nominal=nominal, classes=classes, channels=channels)


@lru_cache(maxsize=1024)
def _sampled(architecture: Architecture, policy: Policy) -> Architecture:
    return sampling.sampled(architecture, policy)


PARAMS = (SpatialSamplingParams,)
