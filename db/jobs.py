"""Leased jobs: the common part of trials, dataset validations, weight conversions, exports and webhook deliveries.

A worker claims a waiting row by compare-and-set: the row's epoch is incremented, and it gets a lease that the worker
renews while it works. Every later write is guarded by the epoch: a worker that lost the lease updates zero rows
(`StaleLeaseError`), and its transaction rolls back. A job ends, is released, or crashes. A crashed job is retried until
no attempt is left. An expired lease counts as a crash (`paretofit.db.reaping`).

`KINDS` holds the differences. Trials add events, limits and priorities (`paretofit.db.leases`, `paretofit.db.trials`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Row, and_, func, inspect, or_, select
from sqlalchemy import update as sql_update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, defer

from paretofit.db import counters, states
from paretofit.db.outbox import CONVERT, DELIVER, EXPORT, INGEST, TRAIN, enqueue
from paretofit.db.tables import DatasetRow, DeliveryRow, ExportRow, Leased, TrialRow, WeightsRow

R = TypeVar("R", bound=Leased)

RETRY_DELAYS: Final = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds before each retry of a delivery, three days in total: the schedule that Standard Webhooks recommends."""


_MAX_DELAY_SECONDS: Final = 86_400.0
"""Upper bound of retry delays that double."""


class StaleLeaseError(RuntimeError):
    """The lease is lost: stop the work and write nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class JobKind(Generic[R]):
    """A table of jobs: `waiting` selects the rows that a worker should claim, `task` is the name of their job message.

    `leased`, `queued` and `failed` are the states of a row that is in progress, that waits for a retry, and that has no
    attempt left. `attempts` is the column that counts crashes; `on_crash` are values that each crash sets. Retry delays
    double, unless `retry_delays` lists them. `failures` is the counter of failed rows by error code.
    """

    noun: str
    row: type[R]
    machine: states.Machine
    task: str
    waiting: ColumnElement[bool]
    leased: str = "running"
    queued: str = "queued"
    failed: str = "failed"
    attempts: str = "crash_count"
    on_crash: Mapping[str, Any] = field(default_factory=dict)
    retry_delays: tuple[int, ...] = ()
    failures: str | None = None


TRIALS: Final = JobKind(
    noun="trial", row=TrialRow, machine=states.TRIAL, task=TRAIN, waiting=TrialRow.state == "queued"
)
DATASETS: Final = JobKind(
    noun="dataset",
    row=DatasetRow,
    machine=states.DATASET,
    task=INGEST,
    # Its upload is complete, or it needs none.
    waiting=DatasetRow.lease_expires_at.is_(None)
    & or_(
        DatasetRow.state == "validating",
        (DatasetRow.state == "pending") & (DatasetRow.source["kind"].astext != "upload"),
    ),
    leased="validating",
    queued="validating",
    failed="rejected",
    failures=counters.UPLOADS_REJECTED,
)
WEIGHTS: Final = JobKind(
    noun="weights",
    row=WeightsRow,
    machine=states.WEIGHTS,
    task=CONVERT,
    waiting=WeightsRow.lease_expires_at.is_(None)
    & or_(
        WeightsRow.state == "converting",
        (WeightsRow.state == "pending") & (WeightsRow.source["kind"].astext != "upload"),
    ),
    leased="converting",
    queued="converting",
    failed="rejected",
    failures=counters.UPLOADS_REJECTED,
)
EXPORTS: Final = JobKind(
    noun="export", row=ExportRow, machine=states.EXPORT, task=EXPORT, waiting=ExportRow.state == "queued"
)
DELIVERIES: Final = JobKind(
    noun="delivery",
    row=DeliveryRow,
    machine=states.DELIVERY,
    task=DELIVER,
    waiting=DeliveryRow.state == "queued",
    attempts="attempts",
    on_crash={"status": None},
    retry_delays=RETRY_DELAYS,
)
KINDS: Final[tuple[JobKind[Any], ...]] = (TRIALS, DATASETS, WEIGHTS, EXPORTS, DELIVERIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A lease on a row: `subject` is the row's id, `epoch` guards every write, and the lease lasts `seconds` from each
    renewal."""

    kind: JobKind[Any] = field(repr=False)
    subject: str
    epoch: int
    seconds: float

    def held(self) -> ColumnElement[bool]:
        """The guard of every write: the row is leased under this epoch."""
        row = self.kind.row
        return and_(
            row.id == self.subject,
            row.lease_epoch == self.epoch,
            row.state == self.kind.leased,
            row.lease_expires_at.is_not(None),
        )

    def stale(self) -> StaleLeaseError:
        """The error of a write whose guard does not hold."""
        return StaleLeaseError(
            f"lease {self.epoch} of {self.kind.noun} {self.subject} is lost: it was reclaimed or deleted"
        )


def move(
    session: Session, kind: JobKind[R], subject: str, target: str, *guards: ColumnElement[bool], **values: Any
) -> R | None:
    """Move a row to state `target` with these column values and return it; its JSON columns are loaded lazily.

    Returns None and changes nothing if its state does not allow the transition (`kind.machine`) or one of `guards`
    does not hold. A row that is not in progress has no lease.
    """
    if target != kind.leased:
        values["lease_expires_at"] = None
    allowed = kind.row.state.in_(states.sources(kind.machine, target))
    return _update(session, kind, kind.row.id == subject, allowed, *guards, state=target, **values)


def claim(session: Session, kind: JobKind[R], subject: str, *, seconds: float) -> R | None:
    """Claim a waiting row that is due; None if another worker has it or it is not waiting."""
    due = kind.row.run_after <= func.clock_timestamp()
    lease = lease_values(kind, seconds)
    is_subject = kind.row.id == subject
    return _update(session, kind, is_subject, kind.waiting, due, returns_json=True, state=kind.leased, **lease)


def lease_values(kind: JobKind[R], seconds: float) -> dict[str, Any]:
    """Column values of a claim: the next epoch and the expiry of its lease."""
    return {"lease_epoch": kind.row.lease_epoch + 1, "lease_expires_at": seconds_from_now(seconds)}


def renew(session: Session, job: Job, *columns: ColumnElement[Any]) -> Row[*tuple[Any, ...]]:
    """Renew the lease and lock the row until the transaction ends; returns the id and these columns.

    Raises StaleLeaseError.
    """
    renewed = session.execute(
        sql_update(job.kind.row)
        .where(job.held())
        .values(lease_expires_at=seconds_from_now(job.seconds))
        .returning(job.kind.row.id, *columns)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if renewed is None:
        raise job.stale()
    return renewed


def end(session: Session, job: Job, target: str, *guards: ColumnElement[bool], **values: Any) -> None:
    """End the job by moving its row to state `target`. Raises StaleLeaseError."""
    if move(session, job.kind, job.subject, target, job.held(), *guards, **values) is None:
        raise job.stale()


def fail(session: Session, job: Job, error: dict[str, Any], *guards: ColumnElement[bool], **values: Any) -> None:
    """End the job without a result, with the reason `error` {code, detail, ...}. Raises StaleLeaseError."""
    end(session, job, job.kind.failed, *guards, error=error, **values)
    if job.kind.failures is not None:
        counters.add(session, job.kind.failures, error["code"])


def release(session: Session, job: Job) -> None:
    """Release the job: another worker starts over. This does not count as a crash. Raises StaleLeaseError."""
    _requeue(session, job, run_after=func.clock_timestamp())


def crash(
    session: Session,
    job: Job,
    error: dict[str, Any],
    *guards: ColumnElement[bool],
    max_crashes: int,
    back_off: float,
    **values: Any,
) -> str | None:
    """Record a crashed attempt: retry later, or fail with `error` if no attempt is left.

    Unless the kind lists its delays, there are `max_crashes` attempts, the second after `back_off` seconds. Returns the
    new state; None if the lease is lost or one of `guards` does not hold.
    """
    kind = job.kind
    row = lock(session, kind, job.held(), *guards)
    if row is None:
        return None
    crashes = getattr(row, kind.attempts) + 1
    values = {**kind.on_crash, kind.attempts: crashes, **values}
    if crashes >= (len(kind.retry_delays) + 1 if kind.retry_delays else max_crashes):
        fail(session, job, error, *guards, **values)
        return kind.failed
    delay = (
        kind.retry_delays[crashes - 1]
        if kind.retry_delays
        else min(back_off * 2 ** min(crashes - 1, 32), _MAX_DELAY_SECONDS)
    )
    _requeue(session, job, *guards, run_after=seconds_from_now(delay), error=error, **values)
    return kind.queued


def lock(session: Session, kind: JobKind[R], *guards: ColumnElement[bool]) -> R | None:
    """The row for which all of `guards` hold, locked until the transaction ends; None if there is none."""
    query = select(kind.row).where(*guards).with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def expired(kind: JobKind[R]) -> ColumnElement[bool]:
    """The guard for reclaiming a lease: it has expired."""
    return (kind.row.state == kind.leased) & (kind.row.lease_expires_at < func.clock_timestamp())


def seconds_from_now(seconds: float) -> ColumnElement[Any]:
    """The time in `seconds`, by the database's clock."""
    return func.clock_timestamp() + timedelta(seconds=seconds)


def _requeue(
    session: Session, job: Job, *guards: ColumnElement[bool], run_after: ColumnElement[Any], **values: Any
) -> None:
    waiting: dict[str, Any] = {
        "state": job.kind.queued,
        "lease_expires_at": None,
        "run_after": run_after,
        "woken_at": run_after,
    }
    row = _update(session, job.kind, job.held(), *guards, **waiting, **values)
    if row is None:
        raise job.stale()
    enqueue(session, job.kind.task, job.subject, send_after=row.run_after)


def _update(
    session: Session, kind: JobKind[R], *guards: ColumnElement[bool], returns_json: bool = False, **values: Any
) -> R | None:
    if hasattr(kind.row, "updated_at"):
        values["updated_at"] = func.clock_timestamp()
    columns = inspect(kind.row).column_attrs
    # Manifests, outputs and latency tables are large, and most updates do not need them.
    deferred = [each.key for each in columns if isinstance(each.columns[0].type, JSONB) and not returns_json]
    updated = (
        sql_update(kind.row)
        .where(*guards)
        .values(values)
        .returning(kind.row)
        .options(*(defer(getattr(kind.row, name)) for name in deferred))
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    row = session.scalars(updated).one_or_none()
    if row is not None and deferred:
        # Their values in the session may be outdated.
        session.expire(row, deferred)
    return row
