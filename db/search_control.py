"""Control of a running search: pause, resume, change of limits and priority.

A pause begins with a flag: no trial is planned or claimed any more, and running trials save their work and return to
the queue (`paretofit.db.leases.ControlFlags.pause`). When none is running, the search is `paused`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import events, states
from paretofit.db.cancellation import running_trials
from paretofit.db.outbox import TRAIN, enqueue, request_advance
from paretofit.db.tables import OutboxRow, SearchRow, TrialRow
from paretofit.db.transitions import lock_search, move_search


def request_pause(session: Session, search_id: str) -> bool:
    """Request a pause of a search, which takes effect at once if none of its trials is running. Idempotent.

    Returns False if the search has ended or is being cancelled. Raises LookupError for an unknown search.
    """
    search = _locked(session, search_id)
    if not _is_active(search):
        return False
    if not search.pause_requested:
        _update(session, search_id, pause_requested=True)
        events.append(session, search_id, "search.pause_requested", {})
        settle_pause(session, search_id)
    return True


def settle_pause(session: Session, search_id: str) -> None:
    """Move a locked search with a requested pause to `paused`, if none of its trials is running."""
    search = session.get_one(SearchRow, search_id, populate_existing=True)
    if search.pause_requested and not search.cancel_requested and not running_trials(session, search_id):
        move_search(session, search_id, "paused")


def resume(session: Session, search_id: str) -> bool:
    """Resume a search; its queued trials continue from their checkpoints. Does nothing if it is not paused.

    Returns False if the search has ended or is being cancelled. Raises LookupError for an unknown search.
    """
    search = _locked(session, search_id)
    if not _is_active(search):
        return False
    if search.pause_requested:
        _update(session, search_id, pause_requested=False)
        events.append(session, search_id, "search.resumed", {})
        if search.state == "paused":
            move_search(session, search_id, "queued" if search.started_at is None else "running")
        _enqueue_queued_trials(session, search_id)
        request_advance(session, search_id)
    return True


def set_limits(session: Session, search_id: str, limits: dict[str, Any]) -> bool:
    """Change the limits of a search (`Limits` as JSON). Running trials see them at their next poll.

    Queued trials beyond a lower `max_trials` are cancelled; `max_parallel_trials` applies to trials that are planned
    from now on. Returns False if the search has ended. Raises LookupError for an unknown search.
    """
    search = _locked(session, search_id)
    if search.state in states.terminal(states.SEARCH):
        return False
    if limits != search.limits:
        _update(session, search_id, limits=limits)
        events.append(session, search_id, "search.changed", {"limits": limits})
        request_advance(session, search_id)
    return True


def set_priority(session: Session, search_id: str, priority: int) -> bool:
    """Change the priority of a search and its trials. Job messages that were already sent keep their old priority.

    Returns False if the search has ended. Raises LookupError for an unknown search.
    """
    search = _locked(session, search_id)
    if search.state in states.terminal(states.SEARCH):
        return False
    if priority != search.priority:
        _update(session, search_id, priority=priority)
        trial_ids = select(TrialRow.id).where(TrialRow.search_id == search_id)
        for statement in (
            update(TrialRow).where(TrialRow.id.in_(trial_ids), TrialRow.state.not_in(states.terminal(states.TRIAL))),
            update(OutboxRow).where(OutboxRow.subject.in_(trial_ids) | (OutboxRow.subject == search_id)),
        ):
            session.execute(statement.values(priority=priority).execution_options(synchronize_session=False))
        events.append(session, search_id, "search.changed", {"priority": priority})
        if not search.pause_requested:
            _enqueue_queued_trials(session, search_id)
    return True


def _locked(session: Session, search_id: str) -> SearchRow:
    search = lock_search(session, search_id)
    if search is None:
        raise LookupError(f"unknown search {search_id}")
    return search


def _is_active(search: SearchRow) -> bool:
    return search.state not in states.terminal(states.SEARCH) and not search.cancel_requested


def _update(session: Session, search_id: str, **values: Any) -> None:
    session.execute(
        update(SearchRow).where(SearchRow.id == search_id).values(**values).execution_options(synchronize_session=False)
    )


def _enqueue_queued_trials(session: Session, search_id: str) -> None:
    waiting = session.execute(
        update(TrialRow)
        .where(TrialRow.search_id == search_id, TrialRow.state == "queued")
        .values(woken_at=func.greatest(TrialRow.run_after, func.clock_timestamp()))
        .returning(TrialRow.id, TrialRow.number, TrialRow.priority, TrialRow.run_after)
        .execution_options(synchronize_session=False)
    ).all()
    for trial in sorted(waiting, key=lambda trial: trial.number):
        enqueue(session, TRAIN, trial.id, priority=trial.priority, send_after=trial.run_after)
