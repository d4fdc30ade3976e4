"""The reaper: reclaims expired leases and resends lost job messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine, Select, exists, func, literal, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from paretofit.db import jobs, trials
from paretofit.db.engine import transaction
from paretofit.db.jobs import KINDS, TRIALS, Job, JobKind
from paretofit.db.leases import Lease
from paretofit.db.outbox import ADVANCE, TRAIN, enqueue
from paretofit.db.tables import Leased, OutboxRow, SearchRow, TrialRow

LOST: Final = {
    "code": "lost",
    "detail": (
        "the worker stopped renewing its lease because it was killed or its machine or network failed: check the "
        "worker's log"
    ),
}

_IS_ACTIVE = SearchRow.state.in_(("queued", "running")) & ~SearchRow.pause_requested & ~SearchRow.cancel_requested
_IS_CANCELLING = SearchRow.state.in_(("queued", "running", "paused")) & SearchRow.cancel_requested
_WAITING: Final[Mapping[str, tuple[type[Leased] | type[SearchRow], Select[str, int]]]] = {
    **{kind.task: (kind.row, select(kind.row.id, literal(0).label("priority")).where(kind.waiting)) for kind in KINDS},
    TRAIN: (
        TrialRow,
        select(TrialRow.id, TrialRow.priority)
        .join(SearchRow, SearchRow.id == TrialRow.search_id)
        .where(TRIALS.waiting, _IS_ACTIVE),
    ),
    ADVANCE: (
        SearchRow,
        select(SearchRow.id, SearchRow.priority).where(SearchRow.advance_wanted, _IS_ACTIVE | _IS_CANCELLING),
    ),
}


def reap(engine: Engine, *, lease_seconds: float, max_crashes: int, back_off: float) -> dict[str, str]:
    """Reclaim every expired lease, each in its own transaction; returns {id of a trial, dataset, weights, export or
    delivery: new state}.

    Nothing is reclaimed within one lease duration after PostgreSQL started: no worker could renew before.
    """
    with transaction(engine) as session:
        reclaimable_from = func.pg_postmaster_start_time() + timedelta(seconds=lease_seconds)
        if session.scalar(select(reclaimable_from > func.clock_timestamp())):
            return {}
        expired = [lease for kind in KINDS for lease in _expired(session, kind, lease_seconds)]
    reaped: dict[str, str] = {}
    limits: dict[str, Any] = {"max_crashes": max_crashes, "back_off": back_off}
    for lease in expired:
        guard = jobs.expired(lease.kind)
        with _unless_locked(), transaction(engine) as session:
            if isinstance(lease, Lease):
                state = trials.crash(session, lease, LOST, guard, **limits)
            else:
                state = jobs.crash(session, lease, LOST, guard, **limits)
            reaped |= {} if state is None else {lease.subject: state}
    return reaped


def _expired(session: Session, kind: JobKind[Any], seconds: float) -> Iterator[Job]:
    rows = session.scalars(select(kind.row).where(jobs.expired(kind)).order_by(kind.row.lease_expires_at))
    for row in rows:
        if isinstance(row, TrialRow):
            yield Lease.of(row, seconds=seconds)
        else:
            yield Job(kind=kind, subject=row.id, epoch=row.lease_epoch, seconds=seconds)


def resend(session: Session, task: str, *, seconds: float) -> list[str]:
    """Enqueue job messages again for rows that were unclaimed for `seconds` since the last one; returns their ids.

    Rows with a job message in the outbox are skipped.
    """
    table, waiting = _WAITING[task]
    unsent = exists().where(OutboxRow.task == task, OutboxRow.subject == table.id)
    rows = session.execute(
        waiting.where(table.woken_at < func.clock_timestamp() - timedelta(seconds=seconds), ~unsent).with_for_update(
            of=table, key_share=True, skip_locked=True
        )
    ).all()
    for row in rows:
        enqueue(session, task, row.id, priority=row.priority)
    session.execute(
        update(table)
        .where(table.id.in_([row.id for row in rows]))
        .values(woken_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )
    return [row.id for row in rows]


def unclaimed(session: Session, task: str) -> int:
    """Number of rows that wait for a worker."""
    return session.scalar(select(func.count()).select_from(_WAITING[task][1].subquery())) or 0


@contextmanager
def _unless_locked() -> Iterator[None]:
    """Skips a row that is locked for longer than this connection's lock timeout; the next run retries."""
    try:
        yield
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
