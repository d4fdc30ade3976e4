"""Parameters of MutualNet and US-Net, and the networks in their search spaces.

Source: Yang et al., "MutualNet", ECCV 2020 (arXiv 1909.12978) and TPAMI 2021 (arXiv 2105.07085); Yu & Huang,
"Universally Slimmable Networks" (US-Net), ICCV 2019 (arXiv 1903.05134)."""

from __future__ import annotations

from functools import lru_cache, partial
from random import Random
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost_by_metric
from paretofit.models.families import registry
from paretofit.models.families.scaling import Width
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import UNSET, Auto, Candidate, Config, is_unset
from paretofit.search.contracts.start import StartRecord
from paretofit.search.methods.mutualnet import presets
from paretofit.search.methods.mutualnet.options import Baseline, Sweep, Widths
from paretofit.search.methods.mutualnet.space import configs, width_of
from paretofit.search.training import recipe
from paretofit.search.training.params import TrainingParams, input_size, tuned

MEASURED: Final = 96
"""Number of networks with unequal stage widths whose latency is measured."""
SHORT: Final = 10
"""Epochs below which a training from scratch spends half of its steps on the full network. On 10,000 Fashion-MNIST
images, FD-MobileNet x .25 then gets 83.9 % at full width and 78.0 % at a quarter of it, in the compute of five epochs
of four networks; with a quarter of the steps 82.4 % and 79.5 %. Five to nine epochs were not measured."""


class SlimmableParams(TrainingParams):
    """Parameters shared by the methods that train one supernet with shared weights for every width."""

    without_start: ClassVar[frozenset[str]] = frozenset({"sweep", "boost", "polish"})
    unrecorded: ClassVar[dict[str, Any]] = {
        **TrainingParams.unrecorded,
        "keep_last_channels": False,
        "sort_channels": False,
        "full_first": 0.0,
        "lowering": 0.0,
        "polish": 0,
    }
    tiny: ClassVar[dict[str, Any]] = {
        **recipe.QUICK,
        "polish": 0,
        "widths": {"step": 0.25},
        "resolutions": [32, 24],
        "epochs": 1,
        "batch_size": 32,
        "calibration_images": 256,
        "augmentation": {"kind": "none"},
    }

    family: Auto[str] = Field(
        default=UNSET,
        description="Network family that supports slimming (`GET /v1/families`). Unset: the family of the start; "
        "without a start fd_mobilenet.",
    )
    base_width: Auto[float] = Field(
        default=UNSET,
        gt=0,
        le=4,
        description="Width multiplier that defines the full network; 1 is the network of the paper. Unset: the "
        "width of the start; without a start 0.25.",
    )
    keep_last_channels: Auto[bool] = Field(
        default=UNSET,
        description="Whether MobileNetV2 keeps the 1280 channels of its last convolution at a base_width below 1, "
        "as published weights do. Unset: same as the start.",
    )
    widths: Widths = Field(default=Widths(), description="Width multipliers, relative to the full network's channels.")
    granularity: Literal["network", "stage"] = Field(
        default="network",
        description="network: one width for all layers. stage: one width for each stage, in training and in the "
        "sweep. The sweep is then adaptive, because `widths.step` gives too many networks to measure all of them.",
    )
    random_widths: int = Field(
        default=2, ge=0, le=8, description="Random widths per step, in addition to the largest and the smallest."
    )
    sort_channels: Auto[bool] = Field(
        default=UNSET,
        description="Sort the channels of the trained weights by importance before training, so that narrower "
        "networks use the most important channels. Unset: on with a start.",
    )
    full_first: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1,
        description="Fraction of the training in which only the full network is trained; 0 as in the paper. Unset: "
        "0.25; 0.5 from scratch with fewer than 10 epochs.",
    )
    lowering: Auto[float] = Field(
        default=UNSET,
        ge=0,
        le=1,
        description="Fraction of the training, after `full_first`, in which the smallest width decreases linearly "
        "from the largest to `widths.min`; 0 as in the paper. Unset: 0.25.",
    )
    polish: Auto[int] = Field(
        default=UNSET,
        ge=0,
        le=1_000_000,
        description="Steps of the polish: a short training of each selected network on its own after the sweep, "
        "with the best network as teacher. 0 as in the paper: all networks share their weights. Unset: a third of "
        "the steps of the shared training, half with a start.",
    )
    polish_networks: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Maximum number of front networks to polish; those that cover the front best are selected.",
    )
    goal: Literal["front", "boost"] = Field(
        default="front",
        description="front: find the best network for every cost. boost: improve the full network through its "
        "narrower ones (unless `widths.min` is given, from 0.9), and report its gain over the same network trained "
        "on its own.",
    )
    baselines: tuple[Baseline, ...] = Field(
        default=(),
        max_length=64,
        description="Configurations to train on their own with the same recipe, for comparison; shown beside the "
        "front. With goal boost the full network is one of them.",
    )
    baseline_budget: Literal["epochs", "compute"] = Field(
        default="epochs",
        description="epochs: each baseline trains for as many epochs as the supernet. compute: all baselines "
        "together use as many multiply-accumulates as the supernet.",
    )
    sweep: Sweep = Field(default=Sweep(), description="Which networks are measured after training, and how.")

    @field_validator("family")
    @classmethod
    def _slimmable(cls, value: str | None) -> str | None:
        if value is not None:
            registry.architecture(value, slimmable=True)
        return value

    @model_validator(mode="before")
    @classmethod
    def _boosted_by_wide_networks(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("goal") == "boost" and isinstance(given.get("widths", {}), dict):
            return given | {"widths": {"min": 0.9} | given.get("widths", {})}
        return given

    @model_validator(mode="after")
    def _phases(self) -> Self:
        if (self.full_first or 0) + (self.lowering or 0) > 1:
            raise ValueError(
                f"lowering: {self.lowering:g} and full_first {self.full_first:g} together exceed the whole "
                "training (1): lower one"
            )
        return self

    @model_validator(mode="after")
    def _sweepable(self) -> Self:
        if self.goal == "front" and self.granularity == "stage" and self.sweep.mode == "grid":
            raise ValueError("sweep.mode: granularity stage has too many networks for a grid; use adaptive")
        return self

    @property
    def least_trials(self) -> int:
        return 2

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """Fill in the family and width of the start, and the phases of the training. With goal boost the training is
        that of the paper."""
        known = super().resolved(dataset, start)
        phased = self.goal == "front"
        alone = 0.5 if start is None and known.epochs < SHORT else 0.25
        per_epoch = max(1, dataset.images["train"] // known.batch_size)
        chosen = {
            "family": "fd_mobilenet" if start is None else start.family,
            "base_width": 0.25 if start is None else start.width or start.largest_width(partial(_of_base_width, start)),
            "keep_last_channels": start is not None and start.keep_last_channels,
            "sort_channels": start is not None,
            "backbone_rate": 1.0 if start is None else recipe.SHARED_BACKBONE_RATE,
            "full_first": min(alone, 1 - (self.lowering or 0)) if phased else 0.0,
            "lowering": min(0.25, 1 - (alone if is_unset(self.full_first) else self.full_first)) if phased else 0.0,
            "polish": round(known.epochs * per_epoch * (1 / 3 if start is None else 1 / 2)) if phased else 0,
        }
        missing = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        found = known.checked(missing | tuned(self.effort, self.kind))
        if start is not None:
            start.check(found.architecture(dataset, found.widths.max))
        return found

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        """Epochs of all trainings: shared training, baselines and polish."""
        alone = len(self.baselines) if self.baseline_budget == "epochs" else min(1, len(self.baselines))
        return self.epochs * (1 + alone) + self.polish_networks * self.polish_epochs(dataset)

    def polish_epochs(self, dataset: DatasetProfile) -> float:
        """Epochs that `polish` steps amount to."""
        return self.polish / max(1, dataset.images["train"] // self.batch_size)

    @property
    def stages(self) -> int | None:
        """Number of independent stage widths of a network; None with granularity `network`."""
        return registry.stages(self.family) if self.granularity == "stage" else None

    def trained_sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """Resolutions that training samples from, in pixels, largest first. Raises ValueError like `sides`."""
        return self.sides(dataset)

    def architecture(self, dataset: DatasetProfile, width: Width = 1.0) -> Architecture:
        """Network at one width multiplier, or at one multiplier per stage."""
        return _architecture(
            self.family,
            width,
            self.base_width,
            self.nominal or min(dataset.image_size),
            len(dataset.classes),
            dataset.channels,
            keep_last_channels=self.keep_last_channels,
        )

    def full_config(self, dataset: DatasetProfile) -> dict[str, float | int | str]:
        """Configuration of the full network at the largest training resolution."""
        names = ["width"] if self.stages is None else [f"width_{stage}" for stage in range(1, self.stages + 1)]
        return {**dict.fromkeys(names, self.widths.max), "resolution": self.trained_sides(dataset)[0]}

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        return self.architecture(dataset, width_of(config))

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """Widths x resolutions; widths that round to the same channels as a larger one are left out.

        With granularity `stage` these are the networks with equally wide stages. They include the cheapest and the most
        expensive network, because costs grow with every width."""
        self.check_batch(dataset)
        for baseline in self.baselines:
            if baseline.resolution > min(dataset.image_size):
                raise ValueError(
                    f"baselines: resolution {baseline.resolution} exceeds the dataset's image size "
                    f"{min(dataset.image_size)}; use at most {min(dataset.image_size)}"
                )
        widths, sides = self.widths.grid(), self.sides(dataset)
        if self.goal == "boost":
            widths, sides = widths[-1:], sides[:1]
        networks = configs(partial(self.architecture, dataset), widths, self.stages)
        return [self.candidate(dataset, {**config, "resolution": side}) for side in sides for config in networks]

    def measured(self, dataset: DatasetProfile, seed: int) -> list[Candidate]:
        """With granularity `stage` there are too many networks to measure all: the listed candidates and a random
        sample by seed."""
        listed = self.candidates(dataset)
        if self.stages is None or self.goal == "boost":
            return listed
        random = Random(f"measured:{seed}")
        axes = {name: sorted({candidate.config[name] for candidate in listed}) for name in listed[0].config}
        drawn = [{name: random.choice(values) for name, values in axes.items()} for _ in range(MEASURED)]
        return list({each.key: each for each in (*listed, *(self.candidate(dataset, c) for c in drawn))}.values())

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """Network of a configuration: `width`, or `width_1`, `width_2`, ... of the stages, and `resolution`."""
        width, side = width_of(config), int(config["resolution"])
        widths = width if isinstance(width, tuple) else (width,)
        size = input_size(dataset, side)
        return Candidate(
            key=f"w{'_'.join(f'{each:g}' for each in widths)}-r{side}",
            config=dict(config),
            input_size=size,
            cost=cost_by_metric(self.architecture(dataset, width), size),
        )


class MutualNetParams(SlimmableParams):
    """One network with shared weights is trained to run at every width and input resolution. Then the pairs of width
    and resolution are measured, and the best for each cost are extracted as ordinary networks."""

    summary: ClassVar[str] = "One network for every width and input resolution; the best pair for each budget."
    paper: ClassVar[str] = "Yang et al., MutualNet, ECCV 2020 (arXiv 1909.12978)"
    presets: ClassVar[dict[str, dict[str, Any]]] = presets.MUTUALNET

    kind: Literal["mutualnet"] = "mutualnet"


class UsNetParams(SlimmableParams):
    """One network with shared weights is trained to run at every width, at the largest resolution: the baseline of
    MutualNet."""

    summary: ClassVar[str] = "One network for every width, at one input resolution."
    paper: ClassVar[str] = "Yu & Huang, US-Net, ICCV 2019 (arXiv 1903.05134)"
    presets: ClassVar[dict[str, dict[str, Any]]] = presets.US_NET

    kind: Literal["us_net"] = "us_net"
    plus: bool = Field(
        default=False,
        description="US-Net+: measure the same weights at every one of `resolutions` instead of the largest alone.",
    )

    def sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """All resolutions with `plus`, else the largest alone."""
        return super().sides(dataset) if self.plus else self.trained_sides(dataset)

    def trained_sides(self, dataset: DatasetProfile) -> tuple[int, ...]:
        """The largest resolution alone."""
        return super().sides(dataset)[:1]


@lru_cache(maxsize=1024)
def _architecture(
    family: str,
    width: Width,
    base_width: float,
    nominal: int,
    classes: int,
    channels: int,
    *,
    keep_last_channels: bool,
) -> Architecture:
    return registry.architecture(
        family,
        width=width,
        slimmable=True,
        base_width=base_width,
        nominal=nominal,
        classes=classes,
        channels=channels,
        keep_last_channels=keep_last_channels,
    )


def _of_base_width(start: StartRecord, width: float) -> Architecture:
    own = start.network
    kept = start.keep_last_channels
    return _architecture(start.family, 1.0, width, own.nominal, own.classes, own.channels, keep_last_channels=kept)


PARAMS = (MutualNetParams, UsNetParams)
