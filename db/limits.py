"""What a search has spent, against what it may spend (`paretofit.search.contracts.spec.Limits`).

Time passes for `max_wall_seconds` from the start of the first trial on, while the search is not paused; the draining
that leads to a pause counts. `max_epochs` is shared out by the method's plan: only a method knows what a shorter
training does to its schedule. It says how far it came by the outputs `epochs` and `planned_epochs` of its trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Double, cast, exists, extract, func, select
from sqlalchemy.orm import Session

from paretofit.db.outbox import request_advance
from paretofit.db.tables import AttemptRow, SearchRow, TrialRow
from paretofit.search.contracts.spec import Limits

_ROUNDING: Final = 1e-6


def reached(session: Session, search: SearchRow, *, share: float = 1.0) -> str | None:
    """The name of a time limit of which at least `share` is spent; None if there is none."""
    limits = Limits.model_validate(search.limits)
    if limits.max_wall_seconds is not None and wall_seconds(session, search) >= share * limits.max_wall_seconds:
        return "max_wall_seconds"
    if (
        limits.max_device_seconds is not None
        and device_seconds(session, search.id) >= share * limits.max_device_seconds
    ):
        return "max_device_seconds"
    return None


def enforce(session: Session) -> list[str]:
    """Have planning look at the searches whose trials only wait while `max_wall_seconds` passed; returns their ids."""
    most = cast(SearchRow.limits["max_wall_seconds"].astext, Double)
    passed = cast(extract("epoch", func.clock_timestamp() - SearchRow.started_at), Double) - SearchRow.paused_seconds
    waiting = exists().where(TrialRow.search_id == SearchRow.id, TrialRow.state == "queued")
    found = session.scalars(
        select(SearchRow.id)
        .where(SearchRow.state == "running", ~SearchRow.advance_wanted, passed >= most, waiting)
        .order_by(SearchRow.id)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    for search_id in found:
        request_advance(session, search_id)
    return list(found)


def out_of_epochs(search: SearchRow, outputs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether `max_epochs` is spent by the trials with these outputs, and one of them would have trained for longer."""
    most = Limits.model_validate(search.limits).max_epochs
    trained = [output for output in outputs if "epochs" in output]
    shortened = any(output["epochs"] < output.get("planned_epochs", 0) for output in trained)
    # What is left of equal shares is less than one epoch for each.
    left = len(trained) - 1 + _ROUNDING
    return most is not None and shortened and sum(output["epochs"] for output in trained) > most - left


def wall_seconds(session: Session, search: SearchRow) -> float:
    """Seconds since the search's first trial started, until its end if it is over, without its pauses; 0 before."""
    if search.started_at is None:
        return 0.0
    end = search.finished_at or search.paused_at or session.scalar(select(func.clock_timestamp()))
    assert end is not None
    return (end - search.started_at).total_seconds() - search.paused_seconds


def device_seconds(session: Session, search_id: str) -> float:
    """Seconds that the search's attempts have computed, those that run and those that failed included."""
    ended = func.coalesce(AttemptRow.ended_at, func.clock_timestamp())
    spent = session.scalar(
        select(func.sum(extract("epoch", ended - AttemptRow.computing_at)))
        .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
        .where(TrialRow.search_id == search_id)
    )
    return float(spent or 0)
