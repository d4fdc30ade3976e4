"""Fronts: of a search, and of all searches of a dataset. Costs are minimized, `selection_top1` is maximized; baselines
are excluded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from paretofit.api.schemas.points import BestUnder, Corner, Cost
from paretofit.api.schemas.searches import UnmetBound
from paretofit.db.points import FoundPoint, HasRow, ScoredPoint
from paretofit.db.searches import DatasetSearch
from paretofit.search import pareto
from paretofit.search.contracts.spec import Constraint, Objective, metric_key

ACCURACY = "selection_top1"
LATENCY = "latency_ms"
P = TypeVar("P", bound=HasRow)


@dataclass(frozen=True, slots=True)
class Box:
    """The box of a search's hypervolume: the lowest and highest MACs of its candidates, and the number of classes."""

    macs: tuple[float, float]
    classes: int

    @classmethod
    def of(cls, spec: Mapping[str, Any], created: Mapping[str, Any]) -> Box | None:
        """From the specification of a search and the data of its creation; None if its candidates were not recorded."""
        macs = created.get("candidates", {}).get("macs")
        return None if macs is None else cls((macs[0], macs[1]), len(spec["dataset"]["classes"]))

    @property
    def reference(self) -> Corner:
        return Corner(macs=1.1 * self.macs[1], selection_top1=1 / self.classes)

    @property
    def ideal(self) -> Corner:
        return Corner(macs=self.macs[0], selection_top1=1)

    def hypervolume(self, points: Sequence[FoundPoint]) -> float:
        """The hypervolume of a front, in [0, 1]."""
        return pareto.hypervolume([point.row.metrics for point in points], macs=self.macs, classes=self.classes)


class Candidates(Generic[P]):
    """Points that a front is computed from, and those of them that are `eligible` for it. `devices` are those that
    their latencies were measured on; `owner` names where they come from in error messages."""

    def __init__(
        self,
        candidates: list[P],
        eligible: list[P],
        devices: Iterable[str],
        *,
        owner: str,
    ) -> None:
        self.candidates = candidates
        self._eligible = eligible
        self.devices = list(dict.fromkeys(devices))
        self._owner = owner
        self._fronts: dict[tuple[str, ...], list[P]] = {}

    def key(self, metric: str, device: str | None) -> str:
        """The key of a metric in points; latency_ms without a device is that of the only device.

        Raises ValueError for an unknown or missing device.
        """
        if metric != LATENCY:
            if device is not None:
                raise ValueError(f"{metric} does not depend on the device: remove `device`")
            return metric
        if device is None and len(self.devices) == 1:
            [device] = self.devices
        if device not in self.devices:
            remedy = f"use one of {', '.join(self.devices)}" if self.devices else "none was measured, use another cost"
            raise ValueError(f"latency_ms requires a device of {self._owner}: {remedy}")
        return metric_key(metric, device)

    @property
    def costs(self) -> list[str]:
        """The keys of every cost in points."""
        counted = [cost for cost in get_args(Cost) if cost != LATENCY]
        return [*counted, *(metric_key(LATENCY, device) for device in self.devices)]

    def measured(self) -> list[P]:
        """The eligible candidates with a known accuracy, dominated or not, as a bound may be on a cost that is not an
        objective."""
        return [point for point in self._eligible if is_known(point, ACCURACY)]

    def front(self, costs: Sequence[str]) -> list[P]:
        """The non-dominated eligible candidates, by ascending first cost."""
        costs = tuple(costs)
        if costs not in self._fronts:
            self._fronts[costs] = self._front(costs)
        return self._fronts[costs]

    def others(self, front: Sequence[P]) -> list[P]:
        """The candidates that are not on this front."""
        shown = {point.row.id for point in front}
        return [point for point in self.candidates if point.row.id not in shown]

    def _front(self, costs: tuple[str, ...]) -> list[P]:
        measured = [point for point in self.measured() if is_known(point, *costs)]
        kept = pareto.nondominated([point.row.metrics for point in measured], maximize=(ACCURACY,), minimize=costs)
        return sorted(
            (measured[index] for index in kept), key=lambda point: (point.row.metrics[costs[0]], point.row.id)
        )


class Found(Candidates[FoundPoint]):
    """A search's points: `baselines`, and the candidates, which are eligible if they meet its constraints."""

    def __init__(self, points: Sequence[FoundPoint], spec: Mapping[str, Any]) -> None:
        self._constraints = constraints(spec)
        self.objectives = [
            goal.key for goal in map(Objective.model_validate, spec["objectives"]) if goal.metric != ACCURACY
        ]
        """The keys of the costs among the objectives of the search."""
        self.baselines = [point for point in points if point.row.role == "baseline"]
        candidates = [point for point in points if point.row.role == "candidate"]
        eligible = [point for point in candidates if self.feasible(point)]
        super().__init__(candidates, eligible, devices(spec), owner="the search")

    def feasible(self, point: FoundPoint) -> bool:
        """Whether a point is known to meet the constraints of the search."""
        return is_feasible(point, self._constraints)

    def bound(self, key: str) -> float | None:
        """The lowest bound of the search on a cost."""
        return min((bound.value for bound in self._constraints if bound.key == key), default=None)

    def unmet(self) -> list[UnmetBound]:
        """The constraints that no candidate meets."""
        if self.measured():
            return []
        bounds = [KeyedBound(bound.key, bound.op, bound.value) for bound in self._constraints]
        return [
            UnmetBound(
                metric=bounds[index].key, op="<=", value=bounds[index].value, nearest=value, point_id=point.row.id
            )
            for index, value, point in nearest(self.candidates, bounds)
        ]

    def excesses(self, point: FoundPoint) -> list[float]:
        """The violation of each constraint by a point, at most 0 where it is met; empty before all are measured."""
        values = [point.row.metrics.get(bound.key) for bound in self._constraints]
        pairs = zip(values, self._constraints, strict=True)
        return [] if None in values else [value - bound.value for value, bound in pairs if value is not None]


class Joint(Candidates[ScoredPoint]):
    """The points of all searches of a dataset with a checkpoint, whatever the constraints of their searches.

    Their accuracies are comparable, because all searches of a dataset share its selection split.
    """

    def __init__(self, points: Sequence[ScoredPoint], searches: Sequence[DatasetSearch]) -> None:
        self.searches = {search.id: search for search in searches}
        self._constraints = {search.id: constraints(search.spec) for search in searches}
        candidates = [point for point in points if is_known(point, ACCURACY)]
        measured = [device for search in searches for device in devices(search.spec)]
        super().__init__(candidates, candidates, sorted(measured), owner="the dataset's searches")

    def search(self, point: HasRow) -> DatasetSearch:
        """The search that found a point."""
        return self.searches[point.row.search_id]

    def feasible(self, point: HasRow) -> bool:
        """Whether a point is known to meet the constraints of its own search."""
        return is_feasible(point, self._constraints[point.row.search_id])


def constraints(spec: Mapping[str, Any]) -> list[Constraint]:
    """The constraints of a specification."""
    return [Constraint.model_validate(bound) for bound in spec["constraints"]]


def devices(spec: Mapping[str, Any]) -> list[str]:
    """The devices that a specification names, on which the search measures latencies."""
    named = [each["device"] for each in (*spec["constraints"], *spec["objectives"]) if each.get("device")]
    return list(dict.fromkeys(named))


def is_known(point: HasRow, *keys: str) -> bool:
    """Whether a point has a finite value of every metric."""
    values = [point.row.metrics.get(key) for key in keys]
    return all(value is not None and math.isfinite(value) for value in values)


def is_feasible(point: HasRow, bounds: Iterable[Constraint]) -> bool:
    """Whether a point is known to meet all constraints."""
    metrics = point.row.metrics
    return all(metrics.get(bound.key) is not None and bound.holds(metrics) for bound in bounds)


@dataclass(frozen=True, slots=True)
class KeyedBound:
    """A bound with the key of its metric in points."""

    key: str
    op: str
    value: float


def meets(point: FoundPoint, bound: KeyedBound) -> bool:
    """Whether a point is known to satisfy a bound."""
    value = point.row.metrics.get(bound.key)
    if value is None:
        return False
    return bool(value <= bound.value if bound.op == "<=" else value >= bound.value)


def best(points: Sequence[FoundPoint], bounds: Sequence[KeyedBound]) -> FoundPoint | None:
    """The most accurate point within all bounds; ties are broken by fewer MACs."""
    fitting = [point for point in points if all(meets(point, bound) for bound in bounds)]
    return min(fitting, key=lambda point: pareto.preference(point.row.metrics, point.row.key), default=None)


def table(points: Sequence[HasRow], cost: str) -> list[BestUnder]:
    """The result of `best` for every bound on a cost."""
    known = [point for point in points if point.row.metrics.get(cost) is not None]
    return [
        BestUnder(bound=bound, point_id=known[at].row.id, selection_top1=known[at].row.metrics[ACCURACY])
        for bound, at in pareto.best_under([(point.row.key, point.row.metrics) for point in known], cost)
    ]


def nearest(front: Sequence[FoundPoint], bounds: Sequence[KeyedBound]) -> list[tuple[int, float, FoundPoint]]:
    """Why `best` finds no point: the index of each bound that is violated while all others hold, with the nearest value
    and its point. If there is none, each bound is taken by itself."""
    return _nearest(front, bounds, joint=True) or _nearest(front, bounds, joint=False)


def _nearest(
    front: Sequence[FoundPoint], bounds: Sequence[KeyedBound], *, joint: bool
) -> list[tuple[int, float, FoundPoint]]:
    found = []
    for index, bound in enumerate(bounds):
        others = [other for place, other in enumerate(bounds) if place != index] if joint else []
        known = [
            (point.row.metrics[bound.key], point)
            for point in front
            if point.row.metrics.get(bound.key) is not None and all(meets(point, other) for other in others)
        ]
        if known and not any(meets(point, bound) for _, point in known):
            value, point = (min if bound.op == "<=" else max)(known, key=lambda pair: pair[0])
            found.append((index, value, point))
    return found
