"""Cancellation of searches: queued trials are cancelled immediately, running trials when their trainer has ended."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import events, search_warnings, states
from paretofit.db.tables import PointRow, SearchRow, TrialRow
from paretofit.db.transitions import lock_search, move_search, move_trial


def request_cancel(session: Session, search_id: str) -> bool:
    """Request the cancellation of a search, which takes effect at once if none of its trials is running. Idempotent.

    Returns False if the search has ended already. Raises LookupError for an unknown search.
    """
    search = lock_search(session, search_id)
    if search is None:
        raise LookupError(f"unknown search {search_id}")
    if search.state in states.terminal(states.SEARCH):
        return False
    if search.cancel_requested:
        return True
    session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(cancel_requested=True)
        .execution_options(synchronize_session=False)
    )
    events.append(session, search_id, "search.cancel_requested", {})
    settle(session, search)
    return True


def settle(session: Session, search: SearchRow) -> None:
    """Cancel the queued trials of a locked search, and the search itself if none of its trials is running."""
    cancel_queued(session, search.id)
    if not running_trials(session, search.id):
        points = session.scalar(
            select(func.count()).where(PointRow.search_id == search.id, PointRow.role == "candidate")
        )
        warnings = search_warnings.compute(session, search)
        data = {"points": points, "warnings": warnings}
        move_search(session, search.id, "cancelled", data=data, **search_warnings.values(warnings))


def cancel_queued(session: Session, search_id: str, numbers: Collection[int] | None = None) -> None:
    """Cancel the queued trials of a locked search: those with these numbers, or all of them."""
    queued = select(TrialRow.id).where(TrialRow.search_id == search_id, TrialRow.state == "queued")
    if numbers is not None:
        queued = queued.where(TrialRow.number.in_(numbers))
    for trial_id in session.scalars(queued.order_by(TrialRow.number)).all():
        move_trial(session, trial_id, "cancelled")


def running_trials(session: Session, search_id: str) -> int:
    """Number of running trials of a search."""
    running = session.scalar(select(func.count()).where(TrialRow.search_id == search_id, TrialRow.state == "running"))
    return running or 0
