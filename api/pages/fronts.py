"""Fronts on pages: rows for the table, and compact data for the chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from sqlalchemy.orm import Session

from paretofit.api import fronts
from paretofit.api.fronts import ACCURACY, LATENCY, Found
from paretofit.api.pages.quantities import axis_label, label
from paretofit.api.problems import InvalidError
from paretofit.api.schemas.points import Cost
from paretofit.db import points
from paretofit.db.points import FoundPoint
from paretofit.db.tables import SearchRow
from paretofit.search.chance import Majority

COUNTED: Final = tuple(cost for cost in get_args(Cost) if cost != LATENCY)


@dataclass(frozen=True, slots=True)
class Axis:
    """A cost for the x axis: its key in points, and its label."""

    key: str
    label: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A search's front over one cost, with the `dominated` and the `infeasible` candidates (not known to meet the
    constraints). `majority` is the accuracy of the majority class."""

    axis: Axis
    axes: list[Axis]
    points: list[FoundPoint]
    baselines: list[FoundPoint]
    dominated: list[FoundPoint]
    infeasible: list[FoundPoint]
    best_under: list[tuple[float, FoundPoint]]
    bound: float | None
    majority: Majority | None = None

    def chart(self) -> dict[str, Any]:
        """For `front.js`: points as [id, key, cost, selection_top1, top1]; the majority class's selection_top1."""
        key = self.axis.key
        return {
            "x": key,
            "label": axis_label(key),
            "bound": self.bound,
            "majority": None if self.majority is None else self.majority.accuracy(ACCURACY),
            "front": _compact(self.points, key),
            "baselines": _compact(self.baselines, key),
            "dominated": _compact(self.dominated, key),
            "infeasible": _compact(self.infeasible, key),
            "best": [[bound, point.row.id] for bound, point in self.best_under],
        }


def axes(found: Found) -> list[Axis]:
    """The costs of a search's points."""
    return [Axis(key, label(key)) for key in found.costs]


def found_by(session: Session, row: SearchRow) -> Found:
    """The points of a search."""
    return Found(points.of_search(session, row.id), row.spec)


def draw(found: Found, row: SearchRow, key: str, majority: Majority | None = None) -> Drawn:
    """The front over a cost, by its key in points. Raises InvalidError for an unknown one."""
    offered = axes(found)
    axis = next((each for each in offered if each.key == key), None)
    if axis is None:
        raise InvalidError(f"no axis {key!r}: choose one of {', '.join(each.key for each in offered)}")
    front = found.front([key])
    shown = {point.row.id for point in front}
    own = {point.row.id: point for point in found.candidates}
    others = [point for point in found.candidates if point.row.id not in shown and _is_known(point, key)]
    return Drawn(
        axis=axis,
        axes=offered,
        points=front,
        baselines=found.baselines,
        dominated=[point for point in others if found.feasible(point)],
        infeasible=[point for point in others if not found.feasible(point)],
        best_under=[(each.bound, own[each.point_id]) for each in fronts.table(found.front(), key)],
        bound=_bound(row.spec["constraints"], key),
        majority=majority,
    )


def _bound(constraints: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The lowest bound of the search on a cost."""
    bounds = [
        float(each["value"])
        for each in constraints
        if key == (f"{each['metric']}:{each['device']}" if each.get("device") else each["metric"])
    ]
    return min(bounds, default=None)


def _is_known(point: FoundPoint, key: str) -> bool:
    """Whether a point can be drawn."""
    return point.row.metrics.get(key) is not None and point.row.metrics.get(ACCURACY) is not None


def _compact(found: Sequence[FoundPoint], key: str) -> list[list[Any]]:
    rows = []
    for point in found:
        if _is_known(point, key):
            metrics = point.row.metrics
            rows.append([point.row.id, point.row.key, metrics[key], metrics[ACCURACY], metrics.get("top1")])
    return rows
