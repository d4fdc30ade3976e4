"""The search specification: `SearchSpec`, the union of the methods' parameters, objectives, constraints and limits.

An invalid field is rejected with its location and the allowed values.
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
"""Fraction of the time limit reserved for trials to evaluate and report after they are asked to stop."""
Label = Annotated[str, Field(max_length=200)]

P = TypeVar("P")

if TYPE_CHECKING:
    RegisteredMethod = MethodParams
    """Parameters of one of the registered methods (`register_methods`)."""


def metric_key(metric: str, device: str | None) -> str:
    """Name of a metric in a point's metrics: latencies include their device."""
    return metric if device is None else f"{metric}:{device}"


class _OfMetric(Contract):
    metric: str
    device: str | None = Field(
        default=None,
        description="Required with latency_ms, and only there: the device to measure on (`GET /v1/devices`), such "
        "as onnxruntime-cpu-1t.",
    )

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        if self.metric != "latency_ms" and self.device is not None:
            raise ValueError(f"device: {self.metric} does not depend on a device: leave it out")
        if self.metric == "latency_ms" and self.device not in DEVICES:
            named = "is missing" if self.device is None else f"{self.device!r} is unknown"
            raise ValueError(f"device: {named}: choose one of {', '.join(DEVICES)}")
        return self

    @property
    def key(self) -> str:
        """Its name in a point's metrics."""
        return metric_key(self.metric, self.device)


class Objective(_OfMetric):
    """One axis of the front. Accuracies are maximized, costs and latencies minimized."""

    metric: Literal["selection_top1", CostMetric, LatencyMetric]


class Constraint(_OfMetric):
    """An upper bound on a network's cost or its median latency at batch 1. MACs count convolutions and linear
    layers."""

    metric: Literal[CostMetric, LatencyMetric]
    op: Literal["<="] = "<="
    value: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="Upper bound: multiply-accumulates, parameters, bytes or milliseconds, by metric.",
    )

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether a point with these metrics meets the constraint. Raises KeyError if the metric is missing."""
        return metrics[self.key] <= self.value


class Limits(Contract):
    """Limits of a search. At a limit it ends as succeeded, with a `stop_reason` and the front found so far."""

    max_trials: int | None = Field(default=None, ge=1, description="Trials in total.")
    max_parallel_trials: int | None = Field(default=None, ge=1, description="Trials queued or running at a time.")
    max_wall_seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Time from the start of the first trial, without pauses."
    )
    max_device_seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Time that trials compute, failed attempts included."
    )
    max_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Maximum training epochs of all trials together; the method adapts its schedule to them.",
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
    priority: int = Field(default=0, ge=0, le=9, description="Higher values run earlier.")
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=32)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """pydantic calls it, without a namespace, at the first use of an incomplete model. Raises RuntimeError then."""
        if not cls.__pydantic_complete__ and "_types_namespace" not in options:
            raise RuntimeError(f"{cls.__name__} has no methods yet: call paretofit.search.registry.setup() first")
        return super().model_rebuild(**options)

    @property
    def costs(self) -> list[str]:
        """The minimized objectives, as named in points' metrics."""
        return [objective.key for objective in self.objectives if objective.metric != "selection_top1"]

    @property
    def devices(self) -> list[str]:
        """Devices whose latencies are needed, those of constraints first."""
        named = [each.device for each in (*self.constraints, *self.objectives) if each.device is not None]
        return list(dict.fromkeys(named))

    @property
    def least_trials(self) -> int:
        """Fewest trials that can find a network: the method's, and the latency measurements before training and, if it
        learns its networks, after each training."""
        least = self.method.least_trials
        return least + len(self.devices) * (1 + least if self.method.learns else 1)

    def params(self, of: type[P]) -> P:
        """The method's parameters as an instance of a class. Raises TypeError if they belong to another method."""
        if not isinstance(self.method, of):
            raise TypeError(f"method is {self.method.kind}, not {of.__name__}")
        return self.method

    def low_limit(self) -> tuple[str, str] | None:
        """The field of a limit that is too low to find a network, and a message that says what to do; None if all
        suffice."""
        kind, measuring = self.method.kind, self.least_trials - self.method.least_trials
        trials = "trials" + (f", {measuring} of them to measure latencies" if measuring else "")
        least = {
            "max_trials": (self.limits.max_trials, self.least_trials, trials),
            "max_epochs": (self.limits.max_epochs, self.method.least_epochs, "epochs"),
        }
        for field, (most, count, what) in least.items():
            if most is not None and most < count:
                return (
                    field,
                    f"{kind} needs at least {count} {what} to find a network: use at least {count}, or no limit",
                )
        return None

    @field_validator("objectives")
    @classmethod
    def _accuracy_against_costs(cls, value: tuple[Objective, ...]) -> tuple[Objective, ...]:
        names = [objective.key for objective in value]
        if len(set(names)) < len(names):
            raise ValueError("an objective is repeated: give each once")
        if "selection_top1" not in names:
            raise ValueError("selection_top1 is missing: add it; the other objectives are costs")
        return value

    def resolve(self, dataset: DatasetProfile, start: StartRecord | None = None) -> ResolvedSpec:
        """This specification with the records of its dataset and its start, and a value for every parameter: the
        complete input of planning and training.

        Images are normalized as in the training of the start. Raises ValueError for parameters that do not fit the
        dataset or the start."""
        if (self.method.start is None) != (start is None):
            raise ValueError("start: its record and method.start must be given together")
        if start is not None and not self.method.starts:
            raise ValueError(f"start: method {self.method.kind} cannot start from trained weights: leave it out")
        if start is not None:
            mean, std = start.normalization(dataset.channels)
            dataset = dataset.model_copy(update={"mean": mean, "std": std})
        given = {name: getattr(self, name) for name in SearchSpec.model_fields}
        method = self.method.resolved(dataset, start)
        return ResolvedSpec(**given | {"method": method}, dataset=dataset, start=start)


class ResolvedSpec(SearchSpec):
    """An accepted specification. It contains its dataset's classes and sizes, so that it always plans the same way."""

    dataset: DatasetProfile
    start: StartRecord | None = Field(default=None, description="Trained weights that the method starts from.")
    latencies: dict[str, Table] = Field(
        default_factory=dict, exclude=True, description="Latencies measured since the search was accepted, by device."
    )

    def candidates(self) -> list[Candidate]:
        """The networks that the search can find (all where they can be listed) with their costs, cheapest first."""
        listed = self.method.measured(self.dataset, self.seed) if self.devices else self.method.candidates(self.dataset)
        found = [self._measured(candidate) for candidate in listed]
        return sorted(found, key=lambda candidate: (candidate.cost["macs"], candidate.key))

    def candidate(self, config: Config) -> Candidate:
        """Candidate of a configuration, listed or not."""
        return self._measured(self.method.candidate(self.dataset, config))

    def feasible(self) -> list[Candidate]:
        """The candidates that meet every constraint that is known yet. Before measurement, a device's lower bounds are
        used."""
        return [candidate for candidate in self.candidates() if self.meets(candidate)]

    def meets(self, candidate: Candidate) -> bool:
        """Whether a candidate meets every constraint that is known yet. Once a device is measured, a candidate without
        a latency does not."""
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
    """Complete `SearchSpec` and `ResolvedSpec`, which cannot be used before: `method` becomes the union of these
    parameters, discriminated by `kind`. Later calls have no effect."""
    submitted = tuple(methods)
    recorded = [Annotated[params, BeforeValidator(params.recorded)] for params in submitted]
    for spec, members in ((SearchSpec, submitted), (ResolvedSpec, recorded)):
        union: Any = reduce(operator.or_, members)
        spec.model_rebuild(_types_namespace={"RegisteredMethod": Annotated[union, Field(discriminator="kind")]})
