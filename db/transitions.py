"""State transitions of searches and trials: guarded by `paretofit.db.states`, each with its event.

Every transaction that changes states or appends events locks the search's row first (`lock_search`), then trials. This
order prevents deadlocks.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Double, case, cast, extract, func, select, update
from sqlalchemy.orm import Session

from paretofit.db import events, jobs, states
from paretofit.db.jobs import TRIALS
from paretofit.db.tables import SearchRow, TrialRow


def lock_search(session: Session, search_id: str) -> SearchRow | None:
    """The current row of a search, locked until the transaction ends; None if it does not exist."""
    return session.scalars(
        select(SearchRow)
        .where(SearchRow.id == search_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def move_search(
    session: Session, search_id: str, target: str, data: dict[str, Any] | None = None, **values: Any
) -> bool:
    """Move a search to state `target` with these column values and the event `search.<target>`.

    Returns False and changes nothing if its state does not allow the transition.
    """
    if target in states.terminal(states.SEARCH):
        values["finished_at"] = func.clock_timestamp()
    if target == "paused":
        values["paused_at"] = func.clock_timestamp()
    else:
        paused = cast(extract("epoch", func.clock_timestamp() - SearchRow.paused_at), Double)
        counted = func.coalesce(case((SearchRow.started_at.is_not(None), paused)), 0.0)
        values |= {"paused_at": None, "paused_seconds": SearchRow.paused_seconds + counted}
    moved = session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id, SearchRow.state.in_(states.sources(states.SEARCH, target)))
        .values(state=target, **values)
        .returning(SearchRow.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if moved is not None:
        events.append(session, search_id, f"search.{target}", data or {})
    return moved is not None


def move_trial(
    session: Session,
    trial_id: str,
    target: str,
    *guards: ColumnElement[bool],
    data: dict[str, Any] | None = None,
    **values: Any,
) -> TrialRow | None:
    """Move a trial to state `target` with these column values and the event `trial.<target>`.

    Returns the trial. Returns None and changes nothing if its state does not allow the transition or one of `guards`
    does not hold. A trial that is not running has no lease.
    """
    if target != "running":
        values["lease_owner"] = None
    if target in states.terminal(states.TRIAL):
        values["finished_at"] = func.clock_timestamp()
    moved = jobs.move(session, TRIALS, trial_id, target, *guards, **values)
    if moved is not None:
        payload = {"trial": trial_id, "number": moved.number, "epoch": moved.lease_epoch}
        events.append(session, moved.search_id, f"trial.{target}", payload | (data or {}))
    return moved
