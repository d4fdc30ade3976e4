"""Steering a search while it goes on: pause, resume, other limits, another priority.

A pause begins with a flag: nothing of the search is planned or claimed any more, and what runs saves its work and goes
back to the queue (`paretofit.db.leases.Asked.pause`). With the last of it the search is `paused`.
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
    """Ask for a search to be paused; it is at once, if none of its trials runs. Asking twice changes nothing.

    Returns False if the search is over or being cancelled. Raises LookupError for an unknown search.
    """
    search = _locked(session, search_id)
    if not _goes_on(search):
        return False
    if not search.pause_requested:
        _update(session, search_id, pause_requested=True)
        events.append(session, search_id, "search.pause_requested", {})
        settle_pause(session, search_id)
    return True


def settle_pause(session: Session, search_id: str) -> None:
    """Bring a locked search that is to be paused into `paused`, if none of its trials runs any more."""
    search = session.get_one(SearchRow, search_id, populate_existing=True)
    if search.pause_requested and not search.cancel_requested and not running_trials(session, search_id):
        move_search(session, search_id, "paused")


def resume(session: Session, search_id: str) -> bool:
    """Let a search go on: its queued trials from their checkpoints. One that is not paused simply goes on.

    Returns False if the search is over or being cancelled. Raises LookupError for an unknown search.
    """
    search = _locked(session, search_id)
    if not _goes_on(search):
        return False
    if search.pause_requested:
        _update(session, search_id, pause_requested=False)
        events.append(session, search_id, "search.resumed", {})
        if search.state == "paused":
            move_search(session, search_id, "queued" if search.started_at is None else "running")
        _wake_queued(session, search_id)
        request_advance(session, search_id)
    return True


def set_limits(session: Session, search_id: str, limits: dict[str, Any]) -> bool:
    """Give a search other limits (`Limits` as JSON). What runs hears of it within a second.

    Trials that wait beyond a lower `max_trials` are cancelled; `max_parallel_trials` holds for what is planned from now
    on. Returns False if the search is over. Raises LookupError for an unknown search.
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
    """Make a search and its trials more or less urgent. A job message that was sent already may still come in its old
    turn.

    Returns False if the search is over. Raises LookupError for an unknown search.
    """
    search = _locked(session, search_id)
    if search.state in states.terminal(states.SEARCH):
        return False
    if priority != search.priority:
        _update(session, search_id, priority=priority)
        mine = select(TrialRow.id).where(TrialRow.search_id == search_id)
        for statement in (
            update(TrialRow).where(TrialRow.id.in_(mine), TrialRow.state.not_in(states.terminal(states.TRIAL))),
            update(OutboxRow).where(OutboxRow.subject.in_(mine) | (OutboxRow.subject == search_id)),
        ):
            session.execute(statement.values(priority=priority).execution_options(synchronize_session=False))
        events.append(session, search_id, "search.changed", {"priority": priority})
        if not search.pause_requested:
            _wake_queued(session, search_id)
    return True


def _locked(session: Session, search_id: str) -> SearchRow:
    search = lock_search(session, search_id)
    if search is None:
        raise LookupError(f"no search {search_id}")
    return search


def _goes_on(search: SearchRow) -> bool:
    return search.state not in states.terminal(states.SEARCH) and not search.cancel_requested


def _update(session: Session, search_id: str, **values: Any) -> None:
    session.execute(
        update(SearchRow).where(SearchRow.id == search_id).values(**values).execution_options(synchronize_session=False)
    )


def _wake_queued(session: Session, search_id: str) -> None:
    waiting = session.execute(
        update(TrialRow)
        .where(TrialRow.search_id == search_id, TrialRow.state == "queued")
        .values(woken_at=func.greatest(TrialRow.run_after, func.clock_timestamp()))
        .returning(TrialRow.id, TrialRow.number, TrialRow.priority, TrialRow.run_after)
        .execution_options(synchronize_session=False)
    ).all()
    for trial in sorted(waiting, key=lambda trial: trial.number):
        enqueue(session, TRAIN, trial.id, priority=trial.priority, send_after=trial.run_after)
