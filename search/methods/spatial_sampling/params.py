"""Parameters of spatial sampling, and what its networks may cost.

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
"""Densities that latencies are measured at before networks are trained, with 0 and 1."""
Gamma = Annotated[float, Field(ge=1e-6, le=100)]


class SpatialSamplingParams(TrainingParams):
    """Residual networks that learn at which positions of an image their features are worth computing, one for each
    density (or each weight of sparsity) that is chosen."""

    summary: ClassVar[str] = "Residual networks that compute features only where an image needs them."
    paper: ClassVar[str] = "Xie et al., Spatially Adaptive Inference, ECCV 2020 (arXiv 2003.08866)"
    tiny: ClassVar[dict[str, Any]] = presets.TINY
    presets: ClassVar[dict[str, dict[str, Any]]] = presets.PRESETS
    exports: ClassVar[tuple[Format, ...]] = ("safetensors", "torch_export", "onnx")
    learns: ClassVar[bool] = True

    kind: Literal["spatial_sampling"] = "spatial_sampling"
    family: Auto[str] = Field(
        default=UNSET,
        description="resnet18, 34, 50, 101, 152, or a WideResNet such as wrn_28_4 for small images. Unset: that of "
        "the start, else wrn_16_1.",
    )
    base_width: Auto[float] = Field(
        default=UNSET, gt=0, le=4, description="Multiplier of the family's channels. Unset: that of the start, else 1."
    )
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="Shorter side of the input, pixels: one. Unset: the dataset's image size.",
    )
    loss: Literal["density", "gamma"] = Field(
        default="density",
        description="density: the expected share of the sampled convolutions' multiply-accumulates is led to a value. "
        "gamma: a weight of the mean probabilities, as published.",
    )
    densities: tuple[Density, Density] = Field(
        default=(0.2, 0.7), description="Of loss density: between which values densities are chosen."
    )
    gammas: tuple[Gamma, Gamma] = Field(
        default=(0.05, 1.0),
        description="Of loss gamma: between which weights it is chosen, on a logarithmic scale. Published: .02 to .2 "
        "in detection, .01 and .015 in classification.",
    )
    density_weight: float = Field(
        default=10.0, gt=0, le=1000, description="Of loss density: weight of the squared difference."
    )
    trials: int = Field(default=4, ge=1, le=1000, description="Networks that are trained, beside baselines.")
    parallel_trials: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Networks that are in training, or wait for a worker, at a time: fewer are chosen with more "
        "knowledge.",
    )
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        max_length=8,
        description="Fixed budgets at which each trained network is measured as well, as shares of its densities.",
    )
    draw: Literal["stochastic", "deterministic", "budget"] = Field(
        default="stochastic",
        description="Which positions are computed: each with its probability, by the seed; those of one half or more; "
        "or of every image as many, the best.",
    )
    fill: Fill = Field(
        default="rbf",
        description="What the other positions get: means of what is near, weighted by a radial basis function, a "
        "learned kernel or all alike; or zero, which is the fastest.",
    )
    window: Literal[3, 5, 7, 9, 11] = Field(default=7, description="Side of the interpolation's window, pixels.")
    grid: int = Field(
        default=7,
        ge=0,
        le=64,
        description="Step of a grid of positions that are always computed (published: 11); 0: none. With fill zero "
        "none is needed.",
    )
    tile: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Masks are drawn for squares of so many pixels a side; 1: for each position, which is for CPUs. "
        "GPUs save time with 8.",
    )
    shared_mask: bool = Field(default=False, description="Basic blocks have one mask for both convolutions, not two.")
    final_temperature: float = Field(
        default=0.03,
        gt=0,
        le=1,
        description="To which the temperature of masks falls from 1, by a constant factor each step.",
    )
    baselines: tuple[Baseline, ...] = Field(
        default=(),
        max_length=3,
        description="What is trained for the first densities too, to compare with: the plain network on smaller "
        "images (uniform), masks without noise (deterministic), masks by a rectified gate (gated). They are shown "
        "beside the front.",
    )
    decay: Literal["dense", "all"] = Field(
        default="dense",
        description="What weight decay acts on: weights of dense convolutions and linear layers, or every parameter.",
    )

    @field_validator("densities", "gammas")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the range must grow, not go from {value[0]:g} to {value[1]:g}")
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
        """The family and width of the start."""
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
        """A latency is that of the form which is deployed: in torch the sparse one, or the one that computes everything
        and masks it where that is faster; in ONNX Runtime the latter. Raises ValueError for ncnn, which has neither."""
        for device in devices:
            if DEVICES[device].runtime == "ncnn":
                others = ", ".join(name for name, other in DEVICES.items() if other.runtime != "ncnn")
                raise ValueError(
                    f"device: {device} cannot run networks with masks, for which ncnn has no operations; use one of "
                    f"{others}"
                )

    def input_size(self, dataset: DatasetProfile) -> tuple[int, int]:
        """Height and width, pixels. Raises ValueError for a side beyond the dataset's image size."""
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
        """That of the items `draw`, `mask_seed` and `mask_densities`, which are learned; the plain network for a
        `side`. A candidate, of which only the `density` is known, is one of that density everywhere."""
        if "side" in config:
            return self.plain(dataset)
        if "mask_densities" not in config:
            # Without weights a network draws by chance, or nothing at all.
            untrained: Draw = "budget" if self.draw == "budget" else "stochastic"
            return self.masked(dataset, untrained, float(config["density"]), 0)
        draw: Any = config["draw"]
        made = self.masked(dataset, draw, 1.0, int(config["mask_seed"]))
        return sampling.with_densities(made, from_line(str(config["mask_densities"])))

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """The network of a configuration that `network` knows."""
        architecture = self.network(dataset, config)
        size = input_size(dataset, int(config["side"])) if "side" in config else self.input_size(dataset)
        return Candidate(key=key(config), config=dict(config), input_size=size, cost=cost_by_metric(architecture, size))

    def cost(self, dataset: DatasetProfile, density: float, draw: Draw = "stochastic") -> dict[str, int]:
        """What the network costs with masks of one density."""
        return cost_by_metric(self.masked(dataset, draw, density, 0), self.input_size(dataset))

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Densities are learned: the least network, those of the bounds of the range, and the one that computes
        everything tell between what the others are."""
        self.check_batch(dataset)
        return self._of_densities(dataset, self.densities if self.loss == "density" else ())

    def measured(self, dataset: DatasetProfile, seed: int) -> list[Candidate]:
        """Networks of one density everywhere, from that which computes nothing to that which computes everything: they
        tell how long others take."""
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
    """What a network is called: how it was trained, and what was made of it."""
    if "side" in config:
        return f"uniform-{config['side']}"
    trained = f"density-{config['density']}" if "density" in config else f"gamma-{config['gamma']}"
    prefix = f"{config['baseline']}-" if "baseline" in config else ""
    return f"{prefix}{trained}-budget-{config['share']}" if "share" in config else f"{prefix}{trained}"


def to_line(densities: Sequence[float]) -> str:
    """As an item of a configuration."""
    return "-".join(f"{density:.4f}" for density in densities)


def from_line(line: str) -> tuple[float, ...]:
    """What `to_line` wrote."""
    return tuple(map(float, line.split("-")))


@lru_cache(maxsize=64)
def _plain(family: str, base_width: float, nominal: int, classes: int, channels: int) -> Architecture:
    return registry.architecture(family, base_width=base_width, nominal=nominal, classes=classes, channels=channels)


@lru_cache(maxsize=1024)
def _sampled(architecture: Architecture, policy: Policy) -> Architecture:
    return sampling.sampled(architecture, policy)


PARAMS = (SpatialSamplingParams,)
