"""Parameters of ScaleNet, and the budgets of its networks.

Source: Li et al., ScaleNet, CVPR 2019 (arXiv 1904.09460).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost_by_metric, fast_macs
from paretofit.models.families import scalenet, structures
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.params import Candidate, Config, is_unset
from paretofit.search.contracts.start import StartRecord
from paretofit.search.methods.scalenet import presets
from paretofit.search.methods.scalenet.allocation import Allocation
from paretofit.search.methods.scalenet.space import StructureSpace
from paretofit.search.training import recipe
from paretofit.search.training.params import TrainingParams, input_size

BudgetMetric = Literal["macs", "params", "latency_ms"]
SHARES = (0.25, 0.5, 1.0)
"""Default budgets, relative to the cost of the plain ResNet."""


class ScaleNetParams(TrainingParams):
    """A seed network with too many channels at every scale is trained. For each budget, the importance of its channels
    decides how many channels each scale of each block gets; that network is trained from scratch."""

    summary: ClassVar[str] = "How many channels each scale of each block gets, learned, for any budget."
    paper: ClassVar[str] = "Li et al., ScaleNet, CVPR 2019 (arXiv 1904.09460)"
    tiny: ClassVar[dict[str, Any]] = presets.TINY
    presets: ClassVar[dict[str, dict[str, Any]]] = presets.PRESETS

    starts: ClassVar[bool] = False

    kind: Literal["scalenet"] = "scalenet"
    family: str = Field(
        default="scalenet20",
        description="scalenet18, 34 (basic blocks), 50, 101, 152 (bottlenecks), or for small images scalenet20, 38, "
        "56.",
    )
    base_width: float = Field(
        default=1.0, gt=0, le=4, description="Multiplier of the family's planes; 1 is the network of the paper."
    )
    resolutions: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="Shorter side of the input, in pixels; one value. Unset: the dataset's image size.",
    )
    seed_ratio: float = Field(
        default=1.0,
        ge=0.25,
        le=2,
        description="Channels of the seed network at each scale, relative to a block's planes: 1 is four times as "
        "many as in a ResNet.",
    )
    seed_epochs: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Epochs of the seed network. Unset: `epochs`.",
    )
    budget_metric: BudgetMetric = Field(
        default="macs",
        description="Cost that the budgets limit: multiply-accumulates or parameters, as published; or latency in "
        "milliseconds on the device of an objective or constraint, which requires `budgets`.",
    )
    budgets: tuple[float, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="One network is trained for each budget and uses as much of it as it can. Unset: 25, 50 and "
        "100% of the way from the smallest network to a plain ResNet with the same planes. Required with "
        "budget_metric latency_ms.",
    )
    importance: Literal["magnitude", "signed"] = Field(
        default="magnitude",
        description="Importance of a channel: |gamma| of the batch norm that follows it, or gamma itself.",
    )
    cost_exponent: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="Importance is divided by this power of a channel's multiply-accumulates, which favors small "
        "scales; 0 as in the paper.",
    )
    baselines: tuple[Literal["even", "single", "random", "global"], ...] = Field(
        default=(),
        max_length=4,
        description="Other allocations to train for each budget with the same recipe, for comparison: equal shares; "
        "the largest scale alone (a ResNet); random channels; importance ranked over the whole network. Listed "
        "separately from the front.",
    )
    decay: Literal["dense", "all"] = Field(
        default="all",
        description="Parameters that weight decay applies to. all: every parameter, so that channels that do not "
        "help shrink (as in the paper). dense: weights of dense convolutions and linear layers only.",
    )

    @field_validator("family")
    @classmethod
    def _known(cls, value: str) -> str:
        known = [name for name in scalenet.VARIANTS if "_" not in name]
        if value not in known:
            raise ValueError(f"unknown family {value!r}: choose one of {', '.join(known)}")
        return value

    @field_validator("budgets")
    @classmethod
    def _growing(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and min(value) <= 0:
            raise ValueError("each budget must be greater than 0")
        return None if value is None else tuple(sorted(set(value)))

    @field_validator("baselines")
    @classmethod
    def _once(cls, value: tuple[Allocation, ...]) -> tuple[Allocation, ...]:
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _from_scratch(self) -> Self:
        if self.start is not None:
            raise ValueError(
                "start: not available for scalenet, whose blocks have several scales that published weights lack: "
                "leave start out, or use another method"
            )
        return self

    @model_validator(mode="after")
    def _warm(self) -> Self:
        if None in (self.warmup_epochs, self.epochs):
            return self
        if self.warmup_epochs >= (self.seed_epochs or self.epochs):
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs:g} must be less than seed_epochs, {self.seed_epochs}; lower it"
            )
        return self

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.budget_metric == "latency_ms" and self.budgets is None:
            raise ValueError("budgets: missing with budget_metric latency_ms; give the latencies in milliseconds")
        return self

    def resolved(self, dataset: DatasetProfile, start: StartRecord | None) -> Self:
        """Also ensures that the warm-up is shorter than the training of the seed network."""
        if not is_unset(self.warmup_epochs) or self.seed_epochs is None:
            return super().resolved(dataset, start)
        chosen = recipe.training(dataset, dict(self), started=False)["warmup_epochs"]
        most = round(recipe.MOST_WARMUP * self.seed_epochs, 3)
        return self.model_copy(update={"warmup_epochs": min(chosen, most)}).resolved(dataset, start)

    @property
    def least_trials(self) -> int:
        return 3

    @property
    def least_epochs(self) -> int:
        """One epoch for the seed network and one for another network."""
        return 2

    def planned_epochs(self, dataset: DatasetProfile) -> float:
        networks = len(self.targets(dataset)) * (1 + len(self.baselines))
        return (self.seed_epochs or self.epochs) + networks * self.epochs

    def check_devices(self, devices: Sequence[str]) -> None:
        """Latency of structures is measured on one device during the search."""
        if len(devices) > 1:
            raise ValueError(
                f"device: scalenet measures on one device per search, not on {' and '.join(devices)}; choose one"
            )
        if self.budget_metric == "latency_ms" and not devices:
            raise ValueError(
                "budget_metric: latency_ms needs a device; add an objective or a constraint latency_ms with its device"
            )

    def input_size(self, dataset: DatasetProfile) -> tuple[int, int]:
        """Height and width in pixels. Raises ValueError for a side beyond the dataset's image size."""
        return dataset.image_size if self.resolutions is None else input_size(dataset, self.sides(dataset)[0])

    def space(self, dataset: DatasetProfile) -> StructureSpace:
        """The structures in the search space of the seed network."""
        return StructureSpace(
            family=self.family,
            base_width=self.base_width,
            seed_ratio=self.seed_ratio,
            nominal=self.nominal or min(dataset.image_size),
            classes=len(dataset.classes),
            channels=dataset.channels,
            size=self.input_size(dataset),
        )

    def network(self, dataset: DatasetProfile, config: Config) -> Architecture:
        """Network of the item `structure`, which is learned; for a candidate without it, a network of the same cost."""
        space = self.space(dataset)
        if "structure" in config:
            return space.architecture(structures.from_line(str(config["structure"])))
        if "extreme" in config:
            return space.architecture(space.extreme("least" if config["extreme"] == "least" else "most"))
        return space.architecture(space.even({self.budget_metric: float(config["budget"])}))

    def candidate(self, dataset: DatasetProfile, config: Config) -> Candidate:
        """Candidate of the `structure` that an `allocation` found for a `budget`."""
        architecture, size = self.network(dataset, config), self.input_size(dataset)
        if "extreme" in config:
            return self._candidate(str(config["extreme"]), config, dataset, cost_by_metric(architecture, size))
        name = key(self.budget_metric, float(config["budget"]))
        if "structure" not in config:
            bounded = {self.budget_metric: int(config["budget"])}
            return self._candidate(name, config, dataset, cost_by_metric(architecture, size) | bounded)
        return Candidate(
            key=name if config["allocation"] == "learned" else f"{config['allocation']}-{name}",
            config=dict(config),
            input_size=size,
            cost=cost_by_metric(architecture, size) | {"fast_macs": fast_macs(architecture, size)},
        )

    def targets(self, dataset: DatasetProfile) -> tuple[float, ...]:
        """The budgets in ascending order. Raises ValueError for a budget below the smallest network or above the seed
        network."""
        if self.budgets is not None and self.budget_metric == "latency_ms":
            return self.budgets
        space = self.space(dataset)
        least, most = space.cost_range(self.budget_metric, single="single" in self.baselines)
        if self.budgets is None:
            plain = space.cost(space.plain)[self.budget_metric]
            return tuple(float(round(least + share * (plain - least))) for share in SHARES)
        if self.budgets[0] < least:
            raise ValueError(
                f"budgets: {self.budgets[0]:g} {self.budget_metric} is less than the smallest network needs; use "
                f"at least {least}, or lower base_width"
            )
        if self.budgets[-1] > most:
            raise ValueError(
                f"budgets: {self.budgets[-1]:g} {self.budget_metric} is more than all channels of the seed network "
                f"use; use at most {most}, or raise seed_ratio"
            )
        return self.budgets

    def candidates(self, dataset: DatasetProfile) -> list[Candidate]:
        """The smallest network and one candidate per budget. Its cost is the budget in the budget's metric, and that of
        equal shares in the others. With latency budgets: the smallest and the largest network."""
        self.check_batch(dataset)
        configs: list[Config] = [{"extreme": "least"}]
        if self.budget_metric == "latency_ms":
            configs.append({"extreme": "most"})
        else:
            configs += [{"budget": target} for target in self.targets(dataset)]
        return [self.candidate(dataset, config) for config in configs]

    def _candidate(self, name: str, config: Config, dataset: DatasetProfile, costs: dict[str, int]) -> Candidate:
        return Candidate(key=name, config=dict(config), input_size=self.input_size(dataset), cost=costs)


def key(metric: str, budget: float) -> str:
    """Configuration of the network that was found for a budget."""
    return f"{metric}-{budget:.0f}" if budget == round(budget) else f"{metric}-{budget!r}"


PARAMS = (ScaleNetParams,)
