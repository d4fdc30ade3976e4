"""What a user asks for, as data: `SearchSpec`, the union of the methods' parameters, constraints and limits.

A wrong field is refused with its place and the values that are allowed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from paretofit.search.contracts.base import Contract
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.latency import DEVICES, Table
from paretofit.search.contracts.params import Candidate, Config, MethodParams
from paretofit.search.contracts.start import StartRecord

CostMetric = Literal["macs", "params", "peak_activation_bytes"]
LatencyMetric = Literal["latency_ms"]
RESERVE: Final = 0.15
"""Share of the time that trials keep for evaluating and reporting what they have once they are told of the limit."""
Label = Annotated[str, Field(max_length=200)]

P = TypeVar("P")

if TYPE_CHECKING:
    RegisteredMethod = MethodParams
    """The parameters of one of the registered methods (`register_methods`)."""


def metric_key(metric: str, device: str | None) -> str:
    """What a metric is called among a point's: latencies with their device."""
    return metric if device is None else f"{metric}:{device}"


class _OfMetric(Contract):
    metric: str
    device: str | None = Field(
        default=None,
        description="Of latency_ms alone: what it is measured on (`GET /v1/devices`), such as onnxruntime-cpu-1t.",
    )

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        if self.metric != "latency_ms" and self.device is not None:
            raise ValueError(f"device: {self.metric} is the same on every device: leave it out")
        if self.metric == "latency_ms" and self.device not in DEVICES:
            named = "is missing" if self.device is None else f"{self.device!r} is unknown"
            raise ValueError(f"device: {named}: latency_ms is measured on one of {', '.join(DEVICES)}")
        return self

    @property
    def key(self) -> str:
        """What it is called among a point's metrics."""
        return metric_key(self.metric, self.device)


class Objective(_OfMetric):
    """One axis of the front. Accuracies are maximised, costs and latencies minimised."""

    metric: Literal["selection_top1", CostMetric, LatencyMetric]


class Constraint(_OfMetric):
    """What the network must fit: its cost or its median latency at batch 1. MACs count convolutions and linear
    layers."""

    metric: Literal[CostMetric, LatencyMetric]
    op: Literal["<="] = "<="
    value: float = Field(
        gt=0, allow_inf_nan=False, description="Multiply-accumulates, parameters, bytes or milliseconds."
    )

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether a point with these metrics fits. Raises KeyError if the metric is missing."""
        return metrics[self.key] <= self.value


class Limits(Contract):
    """What the search may spend. At a limit it ends as succeeded with a `stop_reason` and the front found so far."""

    max_trials: int | None = Field(default=None, ge=1)
    max_parallel_trials: int | None = Field(default=None, ge=1)
    max_wall_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_device_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs of training, all trials together: the method makes its schedule for as many.",
    )


class SearchSpec(Contract):
    """A search as a user submits it."""

    name: str = Field(min_length=1, max_length=200)
    dataset_id: str = Field(min_length=1, max_length=200, description="Id of a dataset in state `ready`.")
    task: Literal["classification"] = "classification"
    method: RegisteredMethod
    objectives: tuple[Objective, ...] = Field(
        default=(Objective(metric="selection_top1"), Objective(metric="macs")), min_length=2, max_length=4
    )
    constraints: tuple[Constraint, ...] = Field(default=(), max_length=16)
    limits: Limits = Limits()
    seed: int = Field(default=0, ge=0, lt=2**31)
    priority: int = Field(default=0, ge=0, le=9, description="Higher runs earlier.")
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=32)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """pydantic calls it, without a namespace, at the first use of an incomplete model. Raises RuntimeError then."""
        if not cls.__pydantic_complete__ and "_types_namespace" not in options:
            raise RuntimeError(f"{cls.__name__} has no methods yet: call paretofit.search.registry.setup() first")
        return super().model_rebuild(**options)

    @property
    def costs(self) -> list[str]:
        """The objectives that are minimised, as points' metrics call them."""
        return [objective.key for objective in self.objectives if objective.metric != "selection_top1"]

    @property
    def devices(self) -> list[str]:
        """What latencies are needed on: those of constraints first."""
        named = [each.device for each in (*self.constraints, *self.objectives) if each.device is not None]
        return list(dict.fromkeys(named))

    @property
    def least_trials(self) -> int:
        """Trials without which it finds nothing: the method's, and those that measure, before them and if it learns its
        networks after each."""
        least = self.method.least_trials
        return least + len(self.devices) * (1 + least if self.method.learns else 1)

    def params(self, of: type[P]) -> P:
        """The method's parameters, as those of a class. Raises TypeError if they are of another method."""
        if not isinstance(self.method, of):
            raise TypeError(f"the parameters are those of {self.method.kind}, not {of.__name__}")
        return self.method

    def low_limit(self) -> tuple[str, str] | None:
        """A limit with which it finds nothing: its field, and what to do."""
        kind, measuring = self.method.kind, self.least_trials - self.method.least_trials
        trials = "trials" + (f", {measuring} of them to measure latencies" if measuring else "")
        least = {
            "max_trials": (self.limits.max_trials, self.least_trials, trials),
            "max_epochs": (self.limits.max_epochs, self.method.least_epochs, "epochs"),
        }
        for field, (most, count, what) in least.items():
            if most is not None and most < count:
                return field, f"{kind} finds nothing with fewer than {count} {what}: use at least {count}, or no limit"
        return None

    @field_validator("objectives")
    @classmethod
    def _accuracy_against_costs(cls, value: tuple[Objective, ...]) -> tuple[Objective, ...]:
        names = [objective.key for objective in value]
        if len(set(names)) < len(names):
            raise ValueError("each objective may be named once")
        if "selection_top1" not in names:
            raise ValueError("one objective must be selection_top1; the others are costs")
        return value

    def resolve(self, dataset: DatasetProfile, start: StartRecord | None = None) -> ResolvedSpec:
        """This spec with what its dataset and its start are, and a value for every parameter: all that planning and
        training need to know. The images are normalized as those that the start was trained on. Raises ValueError for
        parameters that fit neither the dataset nor the start."""
        if (self.method.start is None) != (start is None):
            raise ValueError("start: a record belongs to a method with a start, and only to such a one")
        if start is not None and not self.method.starts:
            raise ValueError(f"start: method {self.method.kind} cannot start from trained weights: leave it out")
        if start is not None:
            mean, std = start.normalization(dataset.channels)
            dataset = dataset.model_copy(update={"mean": mean, "std": std})
        given = {name: getattr(self, name) for name in SearchSpec.model_fields}
        method = self.method.resolved(dataset, start)
        return ResolvedSpec(**given | {"method": method}, dataset=dataset, start=start)


class ResolvedSpec(SearchSpec):
    """An accepted spec: it names its dataset's classes and sizes, so that it plans the same way ever after."""

    dataset: DatasetProfile
    start: StartRecord | None = Field(default=None, description="The trained weights that the method starts from.")
    latencies: dict[str, Table] = Field(
        default_factory=dict, exclude=True, description="By device: what was measured since the search was accepted."
    )

    def candidates(self) -> list[Candidate]:
        """The networks that the search may find (all where they can be listed), with their costs, cheapest first."""
        listed = self.method.measured(self.dataset, self.seed) if self.devices else self.method.candidates(self.dataset)
        found = [self._measured(candidate) for candidate in listed]
        return sorted(found, key=lambda candidate: (candidate.cost["macs"], candidate.key))

    def candidate(self, config: Config) -> Candidate:
        """The network of a configuration, whether it is among the listed or not."""
        return self._measured(self.method.candidate(self.dataset, config))

    def feasible(self) -> list[Candidate]:
        """The candidates that meet every constraint, as far as it is known yet: before a device was measured on, its
        bounds hold."""
        return [candidate for candidate in self.candidates() if self.meets(candidate)]

    def meets(self, candidate: Candidate) -> bool:
        """Whether a candidate meets every constraint that is known yet; once latencies are, one that was not measured
        does not."""
        if any(metric_key("latency_ms", device) not in candidate.cost for device in self.latencies):
            return False
        known = [bound for bound in self.constraints if bound.device is None or bound.device in self.latencies]
        return all(bound.holds(candidate.cost) for bound in known)

    def _measured(self, candidate: Candidate) -> Candidate:
        cost = dict(candidate.cost)
        for device, table in self.latencies.items():
            if (latency := table.latencies.get(candidate.key)) is not None:
                cost[metric_key("latency_ms", device)] = latency.median_ms
                cost[metric_key("latency_p95_ms", device)] = latency.p95_ms
        return candidate.model_copy(update={"cost": cost}) if self.latencies else candidate


def register_methods(methods: Iterable[type[MethodParams]]) -> None:
    """Complete `SearchSpec` and `ResolvedSpec`, which cannot be used before: their `method` is one of these parameters,
    by `kind`. The first call counts."""
    submitted = tuple(methods)
    recorded = [Annotated[params, BeforeValidator(params.recorded)] for params in submitted]
    for spec, members in ((SearchSpec, submitted), (ResolvedSpec, recorded)):
        union: Any = reduce(operator.or_, members)
        spec.model_rebuild(_types_namespace={"RegisteredMethod": Annotated[union, Field(discriminator="kind")]})
