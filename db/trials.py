"""Transitions of trials: create, finish, release, crash. Each is one transaction with its events, the outcome of the
attempt and the planner's job message."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from paretofit.db import counters, events, jobs, outbox
from paretofit.db.ids import new_id
from paretofit.db.jobs import TRIALS
from paretofit.db.leases import Lease
from paretofit.db.outbox import TRAIN, enqueue, request_advance
from paretofit.db.search_control import settle_pause
from paretofit.db.tables import AttemptRow, MetricRow, SearchRow, TrialRow
from paretofit.db.transitions import lock_search, move_trial
from paretofit.search.contracts.plan import NewTrial

Outcome = Literal["completed", "pruned", "infeasible", "failed", "cancelled"]
OUT_OF_MEMORY: Final = "oom"
_MAX_BACK_OFF_SECONDS: Final = 300.0
_OOM_BATCH_SCALE: Final = 0.5


def create(session: Session, search: SearchRow, number: int, new: NewTrial) -> str:
    """Queue a trial of a locked search and return its id."""
    row = TrialRow(
        id=new_id("trl"),
        tenant_id=search.tenant_id,
        search_id=search.id,
        number=number,
        params=new.params,
        inputs={name: artifact.model_dump() for name, artifact in new.inputs.items()},
        device=new.device,
        priority=search.priority,
    )
    session.add(row)
    session.flush()
    data = {"trial": row.id, "number": number, "epoch": 0, "reason": "planned"}
    events.append(session, search.id, "trial.queued", data)
    enqueue(session, TRAIN, row.id, priority=search.priority)
    return row.id


def finish(
    session: Session,
    lease: Lease,
    outcome: Outcome,
    *,
    outputs: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    """End a trial and request planning. Raises StaleLeaseError."""
    lock_search(session, lease.search_id)
    values: dict[str, Any] = {"outputs": outputs, "error": error}
    if outcome == "completed":
        values["progress"] = 1.0
    data = {} if error is None else {"error": error}
    if move_trial(session, lease.trial_id, outcome, lease.held(), data=data, **values) is None:
        raise lease.stale()
    _end_attempt(session, lease.trial_id, lease.epoch, outcome, error)
    request_advance(session, lease.search_id)
    settle_pause(session, lease.search_id)


def next_due(session: Session, offers: Collection[str], skipped: Collection[str]) -> str | None:
    """The queued trial that a worker with these devices runs next, without those in `skipped`: by priority, then by the
    age of the search. So the follow-up trials of a search do not wait for the trainings of later searches."""
    return session.scalar(
        select(TrialRow.id)
        .join(SearchRow, SearchRow.id == TrialRow.search_id)
        .where(
            TrialRow.state == "queued",
            TrialRow.run_after <= func.clock_timestamp(),
            TrialRow.device.is_(None) | TrialRow.device.in_(offers),
            SearchRow.state.in_(("queued", "running")),
            ~SearchRow.cancel_requested,
            ~SearchRow.pause_requested,
            TrialRow.id.not_in(skipped),
        )
        .order_by(TrialRow.priority.desc(), SearchRow.created_at, SearchRow.id, TrialRow.number)
        .limit(1)
    )


def pass_on(session: Session, trial_id: str, offers: Collection[str], *, seconds: float) -> None:
    """Postpone a queued trial's job message by `seconds` if it measures on a device that this worker does not offer, so
    that another worker gets it."""
    trial = session.get(TrialRow, trial_id)
    if trial is None or trial.state != "queued" or trial.device is None or trial.device in offers:
        return
    outbox.postpone(session, TRAIN, trial_id, priority=trial.priority, seconds=seconds)


def release(session: Session, lease: Lease) -> None:
    """Release a trial, which continues from its checkpoint on any worker. This does not count as a crash. If its search
    is being cancelled, the trial is cancelled. Raises StaleLeaseError."""
    search = lock_search(session, lease.search_id)
    if search is not None and search.cancel_requested:
        finish(session, lease, "cancelled")
        return
    now = func.clock_timestamp()
    moved = move_trial(
        session, lease.trial_id, "queued", lease.held(), data={"reason": "drained"}, run_after=now, woken_at=now
    )
    if moved is None:
        raise lease.stale()
    _end_attempt(session, lease.trial_id, lease.epoch, "drained", None)
    settle_pause(session, lease.search_id)
    enqueue(session, TRAIN, lease.trial_id, priority=moved.priority)


def crash(
    session: Session,
    lease: Lease,
    error: dict[str, Any],
    *guards: ColumnElement[bool],
    max_crashes: int,
    back_off: float,
) -> str | None:
    """Record a crashed attempt: queue its trial again after `back_off` seconds, doubled by each earlier crash.

    After `max_crashes` crashes the trial fails with `error` ({code, detail, ...}); if its search is being cancelled, it
    is cancelled. A trial that ran out of memory (code `OUT_OF_MEMORY`) is retried exactly once, from the start with
    half the batch size, whatever its number of crashes. Returns the new state, or None if the lease is lost or one of
    `guards` does not hold.
    """
    search = lock_search(session, lease.search_id)
    if search is None:
        return None
    held = (lease.held(), *guards)
    trial = jobs.lock(session, TRIALS, *held)
    if trial is None:
        return None
    crashes = trial.crash_count + 1
    lost_steps = _steps_beyond(session, trial)
    values: dict[str, Any] = {"crash_count": crashes}
    data: dict[str, Any] = {"error": error}
    too_large = error["code"] == OUT_OF_MEMORY
    if search.cancel_requested:
        target = "cancelled"
    elif trial.batch_scale < 1 if too_large else crashes >= max_crashes:
        target = "failed"
        values["error"] = error
    else:
        target = "queued"
        due = jobs.seconds_from_now(min(back_off * 2 ** (crashes - 1), _MAX_BACK_OFF_SECONDS))
        values |= {"run_after": due, "woken_at": due}
        if too_large:
            # The batch size changes, so neither the checkpoint nor the curves can be continued.
            values |= {"batch_scale": _OOM_BATCH_SCALE, "checkpoint": None, "progress": 0.0}
            session.execute(delete(MetricRow).where(MetricRow.trial_id == lease.trial_id))
    outcome = data["reason"] = "lost" if error["code"] == "lost" else "crashed"
    if move_trial(session, lease.trial_id, target, *held, data=data, **values) is None:
        return None
    _end_attempt(session, lease.trial_id, lease.epoch, outcome, error)
    if target == "queued":
        enqueue(session, TRAIN, trial.id, priority=trial.priority, send_after=trial.run_after)
    else:
        request_advance(session, lease.search_id)
    settle_pause(session, lease.search_id)
    if lost_steps > 0:
        counters.add(session, counters.LOST_STEPS, amount=lost_steps)
    return target


def _steps_beyond(session: Session, trial: TrialRow) -> int:
    """Number of steps beyond a trial's checkpoint, which have to be trained again."""
    saved = (trial.checkpoint or {}).get("step", 0)
    last = session.scalar(select(func.max(MetricRow.step)).where(MetricRow.trial_id == trial.id))
    return max(int(last or 0) - int(saved), 0)


def _end_attempt(session: Session, trial_id: str, epoch: int, outcome: str, error: dict[str, Any] | None) -> None:
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.trial_id == trial_id, AttemptRow.epoch == epoch)
        .values(outcome=outcome, error=error, ended_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )
