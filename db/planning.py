"""Planning between trials: applies the decisions of `paretofit.search.scheduler` in transactions.

The method's plan runs outside of transactions and is committed by compare-and-set.
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
from paretofit.search import scheduler
from paretofit.search.contracts.plan import ACTIVE, Plan, TrialRecord
from paretofit.search.contracts.spec import Limits, ResolvedSpec
from paretofit.search.scheduler import SearchResult, Snapshot
from paretofit.search.trials import plan as next_trials

_LOCK_SECONDS: Final = 600.0
_KEEPALIVES: Final = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The input of a plan: a search as `prepare` read it."""

    search_id: str
    method: str
    spec: dict[str, Any]
    limits: dict[str, Any]
    history: Sequence[TrialRecord]

    def plan(self) -> Plan:
        """Run the method's plan. Raises PlanError if it raises."""
        try:
            spec = ResolvedSpec.model_validate(self.spec | {"limits": self.limits})
            return next_trials(spec, self.history)
        except Exception as error:  # A method is a plug-in: its errors fail only this search.
            raise PlanError(self, error) from error


class PlanError(RuntimeError):
    """A method's plan raised for this `request`; the search ends by `fail`."""

    def __init__(self, request: PlanRequest, error: Exception) -> None:
        super().__init__(
            f"the plan of method {request.method!r} failed: {type(error).__name__}: {error}; "
            "see the log of the light worker"
        )
        self.request = request


def advance(engine: Engine, search_id: str) -> None:
    """Plan a search's next trials, or end it. Idempotent: without changes since the last time it does nothing.

    The plan runs outside of transactions, however long it takes. Returns if another process is planning the search.
    Raises PlanError if the method's plan raises.
    """
    while _prepared(engine, search_id) is not None:
        with _planning_lock(engine, search_id) as is_held:
            if not is_held:
                return
            # Read again under the lock, which is held until the commit: another process may have planned meanwhile.
            request = _prepared(engine, search_id)
            if request is not None:
                plan = request.plan()
                with transaction(engine) as session:
                    commit(session, request, plan)
        # A process that found the lock held left its changes to this one: check again.


def prepare(session: Session, search_id: str) -> PlanRequest | None:
    """The input of a search's next plan; None if there is nothing to plan. Also does what needs no plan: it settles a
    cancellation, enforces limits, and ends a search that plans nothing more with its last trial.

    The search keeps `advance_wanted` until `commit`, so planning is retried if the process is killed.
    """
    found = _plannable(session, search_id)
    if found is None:
        return None
    search, snapshot = found
    return PlanRequest(search_id, search.method, search.spec, search.limits, snapshot.history)


def commit(session: Session, request: PlanRequest, plan: Plan) -> None:
    """Queue a plan's trials within the limits, or end the search if the plan is complete and no trial is active.

    Compare-and-set: if trials were planned or the limits were changed since `prepare`, the plan is dropped and planning
    is requested again. A search that was cancelled, paused or ended meanwhile is left as it is.
    """
    found = _plannable(session, request.search_id)
    if found is None:
        return
    search, snapshot = found
    if not _is_current(request, search, snapshot):
        request_advance(session, search.id)
        return
    decision = scheduler.apply_plan(snapshot, plan)
    for number, new in enumerate(decision.queue, start=len(snapshot.history)):
        trials.create(session, search, number, new)
    if _ended_trials(snapshot.history) != _ended_trials(request.history):
        # The plan did not see the trials that ended meanwhile.
        request_advance(session, search.id)
        return
    _settle_advance(session, search.id)
    _end(session, search, snapshot, decision.result)


def fail(session: Session, error: PlanError) -> None:
    """Fail a search whose plan raised: at once, or when the last of its trials has ended. A cancellation, a pause or a
    limit takes precedence.

    Compare-and-set: if the trials, their outcomes or the limits changed since `prepare`, planning is requested again.
    """
    request = error.request
    found = _plannable(session, request.search_id)
    if found is None:
        return
    search, snapshot = found
    if not _is_current(request, search, snapshot) or _ended_trials(snapshot.history) != _ended_trials(request.history):
        request_advance(session, search.id)
        return
    _settle_advance(session, search.id)
    cancellation.cancel_queued(session, search.id)
    if not any(record.state == "running" for record in snapshot.history):
        reason = {"code": "method_error", "detail": str(error)}
        _end(session, search, snapshot, SearchResult("failed", error=reason))


@contextmanager
def _planning_lock(engine: Engine, search_id: str) -> Iterator[bool]:
    """Whether this process got the search's planning lock: a session-level advisory lock that ends with the process.

    It only avoids duplicate work; `commit` ensures correctness. It therefore expires if the process is suspended.
    """
    key = func.hashtextextended(search_id, 0)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(select(func.pg_try_advisory_lock(key))):
            yield False
            return
        try:
            connection.execute(text(f"SET idle_session_timeout = {_LOCK_SECONDS * 1000:.0f}"))
            # The server notices within a minute that the machine of this process is gone.
            for setting, value in _KEEPALIVES.items():
                connection.execute(text(f"SET {setting} = {value}"))
            yield True
        finally:
            try:
                for setting in ("idle_session_timeout", *_KEEPALIVES):
                    connection.execute(text(f"RESET {setting}"))
                connection.execute(select(func.pg_advisory_unlock(key)))
            except DBAPIError:
                connection.invalidate()


def _prepared(engine: Engine, search_id: str) -> PlanRequest | None:
    with transaction(engine) as session:
        return prepare(session, search_id)


def _plannable(session: Session, search_id: str) -> tuple[SearchRow, Snapshot] | None:
    """A locked search and the snapshot to plan from, if it needs a plan; does what needs none."""
    search = lock_search(session, search_id)
    if search is None or search.state in states.terminal(states.SEARCH) or not search.advance_wanted:
        return None
    if search.cancel_requested:
        _settle_advance(session, search_id)
        cancellation.settle(session, search)
        return None
    if search.pause_requested:
        return None
    snapshot = Snapshot(
        limits=Limits.model_validate(search.limits),
        history=_history(session, search_id),
        spent=limits.spent(session, search),
    )
    decision = scheduler.enforce_limits(snapshot)
    if decision.cancel:
        cancellation.cancel_queued(session, search_id, decision.cancel)
    if decision.plan_from is not None:
        return search, decision.plan_from
    _settle_advance(session, search_id)
    _end(session, search, snapshot, decision.result)
    return None


def _is_current(request: PlanRequest, search: SearchRow, snapshot: Snapshot) -> bool:
    """Whether the search still has the trials and limits of the request."""
    return len(snapshot.history) == len(request.history) and search.limits == request.limits


def _settle_advance(session: Session, search_id: str) -> None:
    session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(advance_wanted=False)
        .execution_options(synchronize_session=False)
    )


def _ended_trials(history: Sequence[TrialRecord]) -> list[tuple[int, str]]:
    return [(record.number, record.state) for record in history if record.state not in ACTIVE]


def _end(session: Session, search: SearchRow, snapshot: Snapshot, result: SearchResult | None) -> None:
    if result is None:
        return
    if result.state == "failed":
        move_search(session, search.id, "failed", data={"error": result.error}, error=result.error)
        return
    if search.state == "queued":
        move_search(session, search.id, "running")
    warnings = search_warnings.compute(session, search)
    points = sum(len(record.points) for record in snapshot.history)
    data = {"stop_reason": result.stop_reason, "points": points, "warnings": warnings}
    values = {"stop_reason": result.stop_reason, **search_warnings.values(warnings)}
    move_search(session, search.id, "succeeded", data=data, **values)


def _history(session: Session, search_id: str) -> list[TrialRecord]:
    points: dict[str, list[dict[str, float]]] = {}
    for trial_id, metrics in session.execute(
        select(PointRow.trial_id, PointRow.metrics)
        .where(PointRow.search_id == search_id, PointRow.role == "candidate")
        .order_by(PointRow.trial_id, PointRow.key)
    ):
        points.setdefault(trial_id, []).append(metrics)
    rows = session.execute(
        select(TrialRow.id, TrialRow.number, TrialRow.state, TrialRow.params, TrialRow.outputs, TrialRow.error)
        .where(TrialRow.search_id == search_id)
        .order_by(TrialRow.number)
    )
    seconds = limits.trial_seconds(session, search_id)
    return [
        TrialRecord(
            number=row.number,
            state=row.state,
            params=row.params,
            outputs=row.outputs,
            points=tuple(points.get(row.id, ())),
            error=row.error,
            seconds=seconds.get(row.id, 0.0) if row.state not in ACTIVE else 0.0,
        )
        for row in rows
    ]
