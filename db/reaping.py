"""What nobody looks after any more: expired leases are taken back, wake-ups that got lost are sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from psycopg.errors import LockNotAvailable
from sqlalchemy import ColumnElement, Engine, Select, exists, func, literal, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute, Session

from paretofit.db import conversion, delivering, exporting, ingestion, trials
from paretofit.db.engine import transaction
from paretofit.db.leases import Lease
from paretofit.db.outbox import ADVANCE, CONVERT, DELIVER, EXPORT, INGEST, TRAIN, enqueue
from paretofit.db.tables import DatasetRow, DeliveryRow, ExportRow, OutboxRow, SearchRow, TrialRow, WeightsRow

LOST: Final = {
    "code": "lost",
    "detail": "the worker stopped renewing its lease: it was killed, or its machine or network failed",
}

_GOES_ON = SearchRow.state.in_(("queued", "running")) & ~SearchRow.pause_requested & ~SearchRow.cancel_requested
_ENDS = SearchRow.state.in_(("queued", "running", "paused")) & SearchRow.cancel_requested
_Table = TrialRow | SearchRow | DatasetRow | WeightsRow | ExportRow | DeliveryRow
_WAITING: Final[Mapping[str, tuple[type[_Table], Select[str, int]]]] = {
    TRAIN: (
        TrialRow,
        select(TrialRow.id, TrialRow.priority)
        .join(SearchRow, SearchRow.id == TrialRow.search_id)
        .where(TrialRow.state == "queued", _GOES_ON),
    ),
    ADVANCE: (
        SearchRow,
        select(SearchRow.id, SearchRow.priority).where(SearchRow.advance_wanted, _GOES_ON | _ENDS),
    ),
    INGEST: (DatasetRow, select(DatasetRow.id, literal(0).label("priority")).where(ingestion.waiting())),
    CONVERT: (WeightsRow, select(WeightsRow.id, literal(0).label("priority")).where(conversion.waiting())),
    EXPORT: (ExportRow, select(ExportRow.id, literal(0).label("priority")).where(ExportRow.state == "queued")),
    DELIVER: (DeliveryRow, select(DeliveryRow.id, literal(0).label("priority")).where(DeliveryRow.state == "queued")),
}


def reap(engine: Engine, *, lease_seconds: float, max_crashes: int, back_off: float) -> dict[str, str]:
    """Take back every expired lease, each in a transaction of its own; returns {id of a trial, dataset, weights, export
    or delivery: new state}.

    For one lease's length after a start of PostgreSQL nothing is taken: no worker could renew while it was away.
    """
    with transaction(engine) as session:
        trusted_from = func.pg_postmaster_start_time() + timedelta(seconds=lease_seconds)
        if session.scalar(select(trusted_from > func.clock_timestamp())):
            return {}
        expired = session.execute(
            select(TrialRow.id, TrialRow.search_id, TrialRow.tenant_id, TrialRow.lease_epoch, TrialRow.lease_owner)
            .where(TrialRow.state == "running", _past(TrialRow.lease_expires_at))
            .order_by(TrialRow.lease_expires_at)
        ).all()
        datasets = session.execute(
            select(DatasetRow.id, DatasetRow.lease_epoch).where(
                DatasetRow.state == "validating", _past(DatasetRow.lease_expires_at)
            )
        ).all()
        weights = session.execute(
            select(WeightsRow.id, WeightsRow.lease_epoch).where(
                WeightsRow.state == "converting", _past(WeightsRow.lease_expires_at)
            )
        ).all()
        exports = session.execute(
            select(ExportRow.id, ExportRow.lease_epoch).where(
                ExportRow.state == "running", _past(ExportRow.lease_expires_at)
            )
        ).all()
        deliveries = session.execute(
            select(DeliveryRow.id, DeliveryRow.lease_epoch).where(
                DeliveryRow.state == "running", _past(DeliveryRow.lease_expires_at)
            )
        ).all()
    reaped: dict[str, str] = {}
    for trial in expired:
        lease = Lease(
            trial.id, trial.search_id, trial.tenant_id, trial.lease_epoch, trial.lease_owner or "", lease_seconds
        )
        guard = _past(TrialRow.lease_expires_at)
        with _unless_locked(), transaction(engine) as session:
            state = trials.crash(session, lease, LOST, guard, max_crashes=max_crashes, back_off=back_off)
            reaped |= {} if state is None else {trial.id: state}
    for dataset in datasets:
        guard = _past(DatasetRow.lease_expires_at)
        with _unless_locked(), transaction(engine) as session:
            state = ingestion.crash(
                session, dataset.id, dataset.lease_epoch, LOST, guard, max_crashes=max_crashes, back_off=back_off
            )
            reaped |= {} if state is None else {dataset.id: state}
    for each in weights:
        guard = _past(WeightsRow.lease_expires_at)
        with _unless_locked(), transaction(engine) as session:
            state = conversion.crash(
                session, each.id, each.lease_epoch, LOST, guard, max_crashes=max_crashes, back_off=back_off
            )
            reaped |= {} if state is None else {each.id: state}
    for export in exports:
        guard = _past(ExportRow.lease_expires_at)
        with _unless_locked(), transaction(engine) as session:
            state = exporting.crash(
                session, export.id, export.lease_epoch, LOST, guard, max_crashes=max_crashes, back_off=back_off
            )
            reaped |= {} if state is None else {export.id: state}
    for delivery in deliveries:
        guard = _past(DeliveryRow.lease_expires_at)
        with _unless_locked(), transaction(engine) as session:
            state = delivering.crash(session, delivery.id, delivery.lease_epoch, LOST, guard)
            reaped |= {} if state is None else {delivery.id: state}
    return reaped


def resend(session: Session, task: str, *, seconds: float) -> list[str]:
    """Write a task's wake-ups again for what has waited unclaimed for `seconds` since the last one; returns the ids.

    What still has a wake-up in the outbox is left alone.
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
    """How much waits for a worker to take it."""
    return session.scalar(select(func.count()).select_from(_WAITING[task][1].subquery())) or 0


def _past(expires_at: InstrumentedAttribute[datetime | None]) -> ColumnElement[bool]:
    return expires_at < func.clock_timestamp()


@contextmanager
def _unless_locked() -> Iterator[None]:
    """Passes over what somebody has locked for longer than this connection waits: the next round looks again."""
    try:
        yield
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
