"""The step between trials: what a search does next, decided by its method's pure `plan` from its history.

How a search ends, when nothing of it is under way and nothing follows:

- a limit was met: succeeded, `stop_reason` names the limit, whatever the front holds;
- it has points: succeeded, `stop_reason` "completed", the limit that shortened its trials, or "trials_failed" if a
  trial failed on the way;
- it has none: failed, with the first failed trial's error, or code "infeasible" or "no_points".

A method sees its failed trials and may plan on. After `failures.MAX_FAILURES` failures in a row
nothing more is planned: what fails that often fails for a reason that the next trial shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from paretofit.db import cancellation, limits, search_warnings, states, trials
from paretofit.db.engine import transaction
from paretofit.db.outbox import request_advance
from paretofit.db.tables import PointRow, SearchRow, TrialRow
from paretofit.db.transitions import lock_search, move_search
from paretofit.search.contracts.failures import keeps_failing
from paretofit.search.contracts.plan import ACTIVE, Plan, TrialRecord
from paretofit.search.contracts.spec import RESERVE, Limits, ResolvedSpec
from paretofit.search.trials import plan as next_trials


class PlanError(RuntimeError):
    """A method's plan raised; the search ends by `fail`."""

    def __init__(self, method: str, error: Exception) -> None:
        super().__init__(f"the plan of method {method!r} failed: {type(error).__name__}: {error}")


_LOCK_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is computed from: a search as it was when `prepare` read it."""

    search_id: str
    method: str
    spec: dict[str, Any]
    limits: dict[str, Any]
    history: Sequence[TrialRecord]

    def plan(self) -> Plan:
        """Ask the method. Raises PlanError if its plan raises."""
        try:
            spec = ResolvedSpec.model_validate(self.spec | {"limits": self.limits})
            return next_trials(spec, self.history)
        except Exception as error:  # A method is a plug-in: whatever it raises is this search's problem.
            raise PlanError(self.method, error) from error


def advance(engine: Engine, search_id: str) -> None:
    """Plan a search's next trials, or end it. Idempotent: without news since the last time it does nothing.

    The plan runs outside any transaction, however long it takes. If another process is planning the search, this one
    leaves it to that: its `commit` sees the news. Raises PlanError if the method's plan raises.
    """
    with transaction(engine) as session:
        request = prepare(session, search_id)
    if request is None:
        return
    with _planning_lock(engine, search_id) as is_held:
        if not is_held:
            return
        plan = request.plan()
    # The lock is released before, so whoever finds it held asked for something that this commit sees.
    with transaction(engine) as session:
        commit(session, request, plan)


def prepare(session: Session, search_id: str) -> PlanRequest | None:
    """What a search's next plan needs; None if there is nothing to plan. What needs no plan is done: a cancel is
    settled, limits are enforced, and a search that plans nothing more ends with its last trial.

    The search keeps `advance_wanted` until `commit`, so a plan whose process is killed is asked for again.
    """
    found = _plannable(session, search_id)
    if found is None:
        return None
    search, history = found
    return PlanRequest(search_id, search.method, search.spec, search.limits, history)


def commit(session: Session, request: PlanRequest, plan: Plan) -> None:
    """Queue a plan's trials within the limits, or end the search if nothing follows and no trial is under way.

    Compare-and-set: if trials were planned or the limits were changed since `prepare`, the plan is dropped and planning
    is requested again. A search that was cancelled, paused or ended meanwhile is left as it is.
    """
    found = _plannable(session, request.search_id)
    if found is None:
        return
    search, history = found
    if len(history) != len(request.history) or search.limits != request.limits:
        request_advance(session, search.id)
        return
    active = sum(record.state in ACTIVE for record in history)
    stop_reason, planned = _queue(session, search, history, plan, active)
    if _ended(history) != _ended(request.history):
        # The plan knew nothing of the trials that ended meanwhile.
        request_advance(session, search.id)
        return
    _settle_advance(session, search.id)
    if active + planned == 0:
        _close(session, search, history, stop_reason)


def fail(session: Session, search_id: str, error: PlanError) -> None:
    """End a search whose method cannot plan: at once, or when the last of its trials has ended. A cancel or a pause
    comes first."""
    search = lock_search(session, search_id)
    if search is None or search.state in states.terminal(states.SEARCH) or search.pause_requested:
        return
    if search.cancel_requested:
        cancellation.settle(session, search)
        return
    cancellation.cancel_queued(session, search_id)
    if not cancellation.running_trials(session, search_id):
        reason = {"code": "method_error", "detail": str(error)}
        move_search(session, search_id, "failed", data={"error": reason}, error=reason)


@contextmanager
def _planning_lock(engine: Engine, search_id: str) -> Iterator[bool]:
    """Whether this process alone plans the search: a lock of PostgreSQL's session, without a transaction, so it ends
    with the process. It only saves work, `commit` decides; so it also ends if a process is stopped for long."""
    key = func.hashtextextended(search_id, 0)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(select(func.pg_try_advisory_lock(key))):
            yield False
            return
        try:
            connection.execute(text(f"SET idle_session_timeout = {_LOCK_SECONDS * 1000:.0f}"))
            yield True
        finally:
            try:
                connection.execute(text("RESET idle_session_timeout"))
                connection.execute(select(func.pg_advisory_unlock(key)))
            except DBAPIError:
                connection.invalidate()


def _plannable(session: Session, search_id: str) -> tuple[SearchRow, list[TrialRecord]] | None:
    """A locked search and its history, if it wants a plan; does all that needs none."""
    search = lock_search(session, search_id)
    if search is None or search.state in states.terminal(states.SEARCH) or not search.advance_wanted:
        return None
    if search.cancel_requested:
        _settle_advance(session, search_id)
        cancellation.settle(session, search)
        return None
    if search.pause_requested:
        return None
    history = _history(session, search_id)
    stop_reason = limits.reached(session, search)
    if stop_reason is not None:
        cancellation.cancel_queued(session, search_id)
        history = _history(session, search_id)
    else:
        history = _within_max_trials(session, search, history)
        if not keeps_failing(record.state for record in history):
            return search, history
    _settle_advance(session, search_id)
    if not any(record.state in ACTIVE for record in history):
        _close(session, search, history, stop_reason)
    return None


def _settle_advance(session: Session, search_id: str) -> None:
    session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(advance_wanted=False)
        .execution_options(synchronize_session=False)
    )


def _ended(history: Sequence[TrialRecord]) -> list[tuple[int, str]]:
    return [(record.number, record.state) for record in history if record.state not in ACTIVE]


def _queue(
    session: Session, search: SearchRow, history: Sequence[TrialRecord], plan: Plan, active: int
) -> tuple[str | None, int]:
    """Queue a plan's trials within the limits; returns the limit that kept it from more, and how many."""
    bounds = Limits.model_validate(search.limits)
    wanted = list(plan.trials)
    stop_reason: str | None = plan.stop_reason if plan.done else None
    if (most := bounds.max_trials) is not None:
        within = wanted[: max(most - len(history), 0)]
        if len(within) < len(wanted) or any(record.state == "cancelled" for record in history[most:]):
            stop_reason = "max_trials"
        wanted = within
    if bounds.max_parallel_trials is not None:
        wanted = wanted[: max(bounds.max_parallel_trials - active, 0)]
    for number, new in enumerate(wanted, start=len(history)):
        trials.create(session, search, number, new)
    return stop_reason, len(wanted)


def _within_max_trials(session: Session, search: SearchRow, history: list[TrialRecord]) -> list[TrialRecord]:
    """The history without trials that wait beyond a limit that was lowered: those are cancelled."""
    most = search.limits.get("max_trials")
    if most is None or not any(record.state == "queued" for record in history[most:]):
        return history
    cancellation.cancel_queued(session, search.id, first=most)
    return _history(session, search.id)


def _close(session: Session, search: SearchRow, history: Sequence[TrialRecord], stop_reason: str | None) -> None:
    points = session.scalar(select(func.count()).where(PointRow.search_id == search.id, PointRow.role == "candidate"))
    ended = session.execute(
        select(TrialRow.number, TrialRow.state, TrialRow.error)
        .where(TrialRow.search_id == search.id)
        .order_by(TrialRow.number)
    ).all()
    failed = next((row for row in ended if row.state == "failed"), None)
    if stop_reason is None and not points:
        error: dict[str, Any]
        if failed is not None:
            error = (failed.error or {}) | {"trial": failed.number}
        elif infeasible := [row for row in ended if row.state == "infeasible"]:
            said = next((row for row in infeasible if row.error is not None), None)
            error = {"code": "infeasible", "detail": "no network meets the constraints: relax them"}
            error |= {} if said is None else said.error | {"trial": said.number}
        else:
            error = {"code": "no_points", "detail": "the method ended without a network: see its trials' logs"}
        move_search(session, search.id, "failed", data={"error": error}, error=error)
        return
    if search.state == "queued":
        move_search(session, search.id, "running")
    if stop_reason is None and limits.out_of_epochs(search, (record.outputs or {} for record in history)):
        stop_reason = "max_epochs"
    reason = (
        stop_reason
        # Whatever ran so late was asked to come to an end (`paretofit.db.leases.Asked.limit`).
        or limits.reached(session, search, share=1 - RESERVE)
        or ("completed" if failed is None else "trials_failed")
    )
    warnings = search_warnings.found(session, search)
    data = {"stop_reason": reason, "points": points, "warnings": warnings}
    move_search(session, search.id, "succeeded", data=data, stop_reason=reason, **search_warnings.values(warnings))


def _history(session: Session, search_id: str) -> list[TrialRecord]:
    points: dict[str, list[dict[str, float]]] = {}
    for trial_id, metrics in session.execute(
        select(PointRow.trial_id, PointRow.metrics)
        .where(PointRow.search_id == search_id, PointRow.role == "candidate")
        .order_by(PointRow.trial_id, PointRow.key)
    ):
        points.setdefault(trial_id, []).append(metrics)
    rows = session.execute(
        select(TrialRow.id, TrialRow.number, TrialRow.state, TrialRow.params, TrialRow.outputs)
        .where(TrialRow.search_id == search_id)
        .order_by(TrialRow.number)
    )
    return [
        TrialRecord(
            number=row.number,
            state=row.state,
            params=row.params,
            outputs=row.outputs,
            points=tuple(points.get(row.id, ())),
        )
        for row in rows
    ]
