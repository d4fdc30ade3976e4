"""The usage of a search against its time limits (`paretofit.search.contracts.spec.Limits`).

`max_wall_seconds` counts from the start of the first trial, except while the search is paused. Draining before a pause
counts.
"""

from __future__ import annotations

from sqlalchemy import Double, cast, exists, extract, func, select
from sqlalchemy.orm import Session

from paretofit.db.outbox import request_advance
from paretofit.db.tables import AttemptRow, SearchRow, TrialRow
from paretofit.search.contracts.spec import Limits
from paretofit.search.scheduler import Spent, TimeLimit, time_limit


def spent(session: Session, search: SearchRow) -> Spent:
    """The seconds that count against the search's time limits; 0 without a limit."""
    limits = Limits.model_validate(search.limits)
    return Spent(
        wall_seconds=0.0 if limits.max_wall_seconds is None else wall_seconds(session, search),
        device_seconds=0.0 if limits.max_device_seconds is None else device_seconds(session, search.id),
    )


def reached(session: Session, search: SearchRow, *, share: float = 1.0) -> TimeLimit | None:
    """The time limit of which at least `share` is used; None if there is none."""
    return time_limit(Limits.model_validate(search.limits), spent(session, search), share=share)


def enforce(session: Session) -> list[str]:
    """Request planning of searches that exceeded `max_wall_seconds` with queued trials; returns their ids."""
    max_seconds = cast(SearchRow.limits["max_wall_seconds"].astext, Double)
    passed = cast(extract("epoch", func.clock_timestamp() - SearchRow.started_at), Double) - SearchRow.paused_seconds
    waiting = exists().where(TrialRow.search_id == SearchRow.id, TrialRow.state == "queued")
    found = session.scalars(
        select(SearchRow.id)
        .where(SearchRow.state == "running", ~SearchRow.advance_wanted, passed >= max_seconds, waiting)
        .order_by(SearchRow.id)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    for search_id in found:
        request_advance(session, search_id)
    return list(found)


def wall_seconds(session: Session, search: SearchRow) -> float:
    """Seconds since the search's first trial started, until now or its end, without pauses; 0 before."""
    if search.started_at is None:
        return 0.0
    end = search.finished_at or search.paused_at or session.scalar(select(func.clock_timestamp()))
    assert end is not None
    return (end - search.started_at).total_seconds() - search.paused_seconds


def trial_seconds(session: Session, search_id: str) -> dict[str, float]:
    """Seconds that the ended attempts of each of a search's trials have computed, by trial id."""
    rows = session.execute(
        select(AttemptRow.trial_id, func.sum(extract("epoch", AttemptRow.ended_at - AttemptRow.computing_at)))
        .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
        .where(TrialRow.search_id == search_id)
        .group_by(AttemptRow.trial_id)
    )
    return {trial_id: float(seconds or 0) for trial_id, seconds in rows}


def device_seconds(session: Session, search_id: str) -> float:
    """Seconds that the search's attempts have computed, including running and failed ones."""
    ended = func.coalesce(AttemptRow.ended_at, func.clock_timestamp())
    spent = session.scalar(
        select(func.sum(extract("epoch", ended - AttemptRow.computing_at)))
        .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
        .where(TrialRow.search_id == search_id)
    )
    return float(spent or 0)
