"""From the points of a search to its front. Costs are minimised, `selection_top1` is maximised; baselines stay
outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from paretofit.api.schemas.points import BestUnder, Corner, Cost
from paretofit.api.schemas.searches import UnmetBound
from paretofit.db.points import FoundPoint
from paretofit.search import pareto
from paretofit.search.contracts.spec import Constraint, Objective, metric_key

ACCURACY = "selection_top1"
LATENCY = "latency_ms"


@dataclass(frozen=True, slots=True)
class Box:
    """What the hypervolume of a search is measured in: the least and the most MACs of its candidates, its classes."""

    macs: tuple[float, float]
    classes: int

    @classmethod
    def of(cls, spec: Mapping[str, Any], created: Mapping[str, Any]) -> Box | None:
        """From a search's specification and what was recorded at its creation; None if its candidates were not."""
        macs = created.get("candidates", {}).get("macs")
        return None if macs is None else cls((macs[0], macs[1]), len(spec["dataset"]["classes"]))

    @property
    def reference(self) -> Corner:
        return Corner(macs=1.1 * self.macs[1], selection_top1=1 / self.classes)

    @property
    def ideal(self) -> Corner:
        return Corner(macs=self.macs[0], selection_top1=1)

    def hypervolume(self, points: Sequence[FoundPoint]) -> float:
        """Of a front, in [0, 1]."""
        return pareto.hypervolume([point.row.metrics for point in points], macs=self.macs, classes=self.classes)


class Found:
    """A search's points: `baselines`, and the feasible and the other candidates. `devices` are those that its latencies
    were measured on."""

    def __init__(self, points: Sequence[FoundPoint], spec: Mapping[str, Any]) -> None:
        self._constraints = [Constraint.model_validate(bound) for bound in spec["constraints"]]
        self._costs = [
            goal.key for goal in map(Objective.model_validate, spec["objectives"]) if goal.metric != ACCURACY
        ]
        devices = [each["device"] for each in (*spec["constraints"], *spec["objectives"]) if each.get("device")]
        self.devices = list(dict.fromkeys(devices))
        self.candidates = [point for point in points if point.row.role == "candidate"]
        self.baselines = [point for point in points if point.row.role == "baseline"]
        self._fronts: dict[tuple[str, ...], list[FoundPoint]] = {}

    def key(self, metric: str, device: str | None) -> str:
        """What points call a metric; without a device latency_ms is that of the search's, if it has one only.

        Raises ValueError for another device, or none.
        """
        if metric != LATENCY:
            if device is not None:
                raise ValueError(f"{metric} is the same on every device: leave it out")
            return metric
        if device is None and len(self.devices) == 1:
            [device] = self.devices
        if device not in self.devices:
            there = f"name one of {', '.join(self.devices)}" if self.devices else "it has measured none"
            raise ValueError(f"latency_ms is of a device of the search: {there}")
        return metric_key(metric, device)

    @property
    def costs(self) -> list[str]:
        """Every cost that points have, as they call it."""
        counted = [cost for cost in get_args(Cost) if cost != LATENCY]
        return [*counted, *(metric_key(LATENCY, device) for device in self.devices)]

    def feasible(self, point: FoundPoint) -> bool:
        """Whether a point is known to meet the search's constraints."""
        metrics = point.row.metrics
        return all(metrics.get(bound.key) is not None and bound.holds(metrics) for bound in self._constraints)

    def measured(self) -> list[FoundPoint]:
        """The feasible candidates whose accuracy is known, dominated or not: a bound may be on a cost that is no
        objective."""
        return [
            point for point in self.candidates if self.feasible(point) and point.row.metrics.get(ACCURACY) is not None
        ]

    def unmet(self) -> list[UnmetBound]:
        """What keeps every candidate from the front."""
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
        """By how much a point misses each constraint, at most 0 where it meets it; none before all are measured."""
        values = [point.row.metrics.get(bound.key) for bound in self._constraints]
        pairs = zip(values, self._constraints, strict=True)
        return [] if None in values else [value - bound.value for value, bound in pairs if value is not None]

    def front(self, costs: Sequence[str] = ()) -> list[FoundPoint]:
        """The feasible candidates that no other one dominates, by growing first cost; over the search's own objectives
        if no costs are named."""
        costs = tuple(costs or self._costs)
        if costs not in self._fronts:
            self._fronts[costs] = self._front(costs)
        return self._fronts[costs]

    def _front(self, costs: tuple[str, ...]) -> list[FoundPoint]:
        measured = [
            point
            for point in self.candidates
            if self.feasible(point) and all(point.row.metrics.get(name) is not None for name in (ACCURACY, *costs))
        ]
        kept = pareto.nondominated([point.row.metrics for point in measured], maximize=(ACCURACY,), minimize=costs)
        return sorted(
            (measured[index] for index in kept), key=lambda point: (point.row.metrics[costs[0]], point.row.id)
        )


@dataclass(frozen=True, slots=True)
class KeyedBound:
    """A bound with what points call its metric."""

    key: str
    op: str
    value: float


def meets(point: FoundPoint, bound: KeyedBound) -> bool:
    """Whether a point is known to keep within a bound."""
    value = point.row.metrics.get(bound.key)
    if value is None:
        return False
    return bool(value <= bound.value if bound.op == "<=" else value >= bound.value)


def best(points: Sequence[FoundPoint], bounds: Sequence[KeyedBound]) -> FoundPoint | None:
    """The most accurate point within all bounds; of equals the one with the fewest MACs."""
    fitting = [point for point in points if all(meets(point, bound) for bound in bounds)]
    return min(fitting, key=lambda point: pareto.preference(point.row.metrics, point.row.key), default=None)


def table(points: Sequence[FoundPoint], cost: str) -> list[BestUnder]:
    """What `best` gives for every bound on a cost."""
    known = [point for point in points if point.row.metrics.get(cost) is not None]
    return [
        BestUnder(bound=bound, point_id=known[at].row.id, selection_top1=known[at].row.metrics[ACCURACY])
        for bound, at in pareto.best_under([(point.row.key, point.row.metrics) for point in known], cost)
    ]


def nearest(front: Sequence[FoundPoint], bounds: Sequence[KeyedBound]) -> list[tuple[int, float, FoundPoint]]:
    """What keeps `best` from finding a point: of each bound that stands in the way while all others hold, its index and
    the nearest value that would do, with its point. If no bound does so alone: each by itself."""
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
