"""Metric curves of trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, String, func, literal, or_, select
from sqlalchemy.orm import Session

from paretofit.db.tables import MetricRow


@dataclass(frozen=True, slots=True)
class Sample:
    """A measured value, which may be NaN or infinite."""

    step: int
    value: float
    at: datetime


def names(session: Session, trial_ids: Sequence[str]) -> dict[str, list[str]]:
    """The sorted metric names of each of these trials; trials without metrics are absent.

    It is a loose index scan, one lookup in the primary key per name: trials may have 100,000 values.
    """
    trial = func.unnest(literal(list(trial_ids), ARRAY(String))).column_valued("trial")
    first = select(func.min(MetricRow.name)).where(MetricRow.trial_id == trial).scalar_subquery()
    found = select(trial.label("trial_id"), first.label("name")).cte("found", recursive=True)
    following = (
        select(func.min(MetricRow.name))
        .where(MetricRow.trial_id == found.c.trial_id, MetricRow.name > found.c.name)
        .scalar_subquery()
    )
    found = found.union_all(select(found.c.trial_id, following).where(found.c.name.is_not(None)))
    rows = session.execute(select(found).where(found.c.name.is_not(None)).order_by(found.c.trial_id, found.c.name))
    known: dict[str, list[str]] = {}
    for trial_id, name in rows:
        known.setdefault(trial_id, []).append(name)
    return known


def totals(session: Session, trial_id: str, *, since_step: int) -> dict[str, int]:
    """Number of values of each metric of a trial above `since_step`, sorted by name."""
    rows = session.execute(
        select(MetricRow.name, func.count())
        .where(MetricRow.trial_id == trial_id, MetricRow.step > since_step)
        .group_by(MetricRow.name)
        .order_by(MetricRow.name)
    )
    return {name: count for name, count in rows}  # noqa: C416 - mypy does not accept a Row as a pair


def curve(session: Session, trial_id: str, name: str, *, since_step: int, max_points: int) -> Sequence[Sample]:
    """At most `max_points` (>= 4) measured values above `since_step`, by step.

    If there are more, it keeps the first, the last, and the minimum and maximum of equally sized buckets between them,
    so that no spike is lost.
    """
    values = (
        select(
            MetricRow.step,
            MetricRow.value,
            MetricRow.at,
            func.row_number().over(order_by=MetricRow.step).label("position"),
            func.count().over().label("total"),
        )
        .where(MetricRow.trial_id == trial_id, MetricRow.name == name, MetricRow.step > since_step)
        .subquery()
    )
    buckets = (max_points - 2) // 2
    bucket = (values.c.position - 2) * buckets / func.greatest(values.c.total - 2, 1)
    least = func.row_number().over(partition_by=func.floor(bucket), order_by=(values.c.value, values.c.position))
    greatest = func.row_number().over(
        partition_by=func.floor(bucket), order_by=(values.c.value.desc(), values.c.position)
    )
    ranked = select(values, least.label("least"), greatest.label("greatest")).subquery()
    kept = or_(
        ranked.c.total <= max_points,
        ranked.c.position == 1,
        ranked.c.position == ranked.c.total,
        ranked.c.least == 1,
        ranked.c.greatest == 1,
    )
    rows = session.execute(select(ranked.c.step, ranked.c.value, ranked.c.at).where(kept).order_by(ranked.c.step))
    return [Sample(step=step, value=value, at=at) for step, value, at in rows]
