"""Fronts on pages: rows for the table, and compact data for the chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from sqlalchemy.orm import Session

from paretofit.api import fronts
from paretofit.api.fronts import ACCURACY, LATENCY, Candidates, Found, Joint, P, is_known
from paretofit.api.pages import svg_chart
from paretofit.api.pages.quantities import axis_label, label
from paretofit.api.problems import InvalidError
from paretofit.api.schemas.points import Cost
from paretofit.db import points, searches
from paretofit.db.points import HasRow
from paretofit.db.searches import DatasetSearch
from paretofit.db.tables import SearchRow
from paretofit.search.chance import Majority

COUNTED: Final = tuple(cost for cost in get_args(Cost) if cost != LATENCY)


@dataclass(frozen=True, slots=True)
class Axis:
    """A cost for the x axis: its key in points, and its label."""

    key: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A front over one cost, with the `dominated` and the `infeasible` candidates (not known to meet the constraints).
    `majority` is the accuracy of the majority class. `searches` by id are those that a joint front's points come from;
    None for the front of one search."""

    axis: Axis
    axes: list[Axis]
    points: Sequence[HasRow]
    dominated: Sequence[HasRow]
    best_under: Sequence[tuple[float, HasRow]]
    baselines: Sequence[HasRow] = field(default_factory=list)
    infeasible: Sequence[HasRow] = field(default_factory=list)
    bound: float | None = None
    majority: Majority | None = None
    searches: dict[str, DatasetSearch] | None = None
    violating: frozenset[str] = frozenset()
    """On a joint front, the ids of the points that are not known to meet the constraints of their own search."""

    def chart(self) -> dict[str, Any]:
        """For `front.js`: points as [id, key, cost, selection_top1, top1], on a joint front with the search's id and
        name; the majority class's selection_top1."""
        key = self.axis.key
        return {
            "x": key,
            "label": axis_label(key),
            "bound": self.bound,
            "majority": None if self.majority is None else self.majority.accuracy(ACCURACY),
            "front": self._compact(self.points),
            "baselines": self._compact(self.baselines),
            "dominated": self._compact(self.dominated),
            "infeasible": self._compact(self.infeasible),
            "best": [[bound, point.row.id] for bound, point in self.best_under],
        }

    def _compact(self, found: Sequence[HasRow]) -> list[list[Any]]:
        key = self.axis.key
        rows = []
        for point in found:
            if is_known(point, key, ACCURACY):
                metrics = point.row.metrics
                row = [point.row.id, point.row.key, metrics[key], metrics[ACCURACY], metrics.get("top1")]
                if self.searches is not None:
                    row += [point.row.search_id, self.searches[point.row.search_id].name]
                rows.append(row)
        return rows


def found_by(session: Session, row: SearchRow) -> Found:
    """The points of a search."""
    return Found(points.of_search(session, row.id), row.spec)


def joint_of(session: Session, tenant: str, dataset_id: str) -> Joint:
    """The points of all searches of a dataset."""
    joined = searches.of_dataset(session, tenant, dataset_id)
    return Joint(points.with_checkpoints(session, [search.id for search in joined]), joined)


def draw(found: Found, key: str, majority: Majority | None = None) -> Drawn:
    """The front of a search over a cost, by its key in points. Raises InvalidError for an unknown one."""
    axis, offered = _axes(found, key)
    front, others = _split(found, key)
    return Drawn(
        axis=axis,
        axes=offered,
        points=front,
        baselines=found.baselines,
        dominated=[point for point in others if found.feasible(point)],
        infeasible=[point for point in others if not found.feasible(point)],
        best_under=_best_under(found.front(found.objectives), key),
        bound=found.bound(key),
        majority=majority,
    )


def draw_joint(joint: Joint, key: str, majority: Majority | None = None) -> Drawn:
    """The joint front of a dataset over a cost, by its key in points. Raises InvalidError for an unknown one."""
    axis, offered = _axes(joint, key)
    front, others = _split(joint, key)
    return Drawn(
        axis=axis,
        axes=offered,
        points=front,
        dominated=others,
        best_under=_best_under(front, key),
        majority=majority,
        searches=joint.searches,
        violating=frozenset(point.row.id for point in front if not joint.feasible(point)),
    )


def context(drawn: Drawn, *, part: str, heading: str, empty: str) -> dict[str, Any]:
    """The variables of `parts/front.html`. `part` is its path, which takes `x`; `empty` is the text without points."""
    chart = drawn.chart()
    svg = svg_chart.draw(chart)
    return {
        "drawn": drawn,
        "chart": chart,
        "svg": svg,
        "side": svg_chart.SIDE,
        "part": part,
        "heading": heading,
        "empty": empty,
    }


def _axes(found: Candidates[Any], key: str) -> tuple[Axis, list[Axis]]:
    offered = [Axis(each, label(each)) for each in found.costs]
    axis = next((each for each in offered if each.key == key), None)
    if axis is None:
        raise InvalidError(f"no axis {key!r}: choose one of {', '.join(each.key for each in offered)}")
    return axis, offered


def _split(found: Candidates[P], key: str) -> tuple[list[P], list[P]]:
    """The front over a cost, and the other candidates that can be drawn."""
    front = found.front([key])
    return front, [point for point in found.others(front) if is_known(point, key, ACCURACY)]


def _best_under(front: Sequence[HasRow], key: str) -> list[tuple[float, HasRow]]:
    own = {point.row.id: point for point in front}
    return [(each.bound, own[each.point_id]) for each in fronts.table(front, key)]
