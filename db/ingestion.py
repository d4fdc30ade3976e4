"""A dataset's validation as a leased job: claim, renew, then ready or rejected. The guard of every write is the
epoch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from paretofit.db import counters, states
from paretofit.db.leases import StaleLeaseError
from paretofit.db.outbox import INGEST, enqueue
from paretofit.db.tables import DatasetRow
from paretofit.db.transitions import move_dataset
from paretofit.search.spec import DatasetSpec


@dataclass(frozen=True, slots=True)
class Ingestion:
    """The right to validate a dataset of a tenant. `spec` is what was asked for; `archive` the SHA-256 of what was
    uploaded."""

    dataset_id: str
    tenant: str
    epoch: int
    seconds: float
    spec: DatasetSpec
    archive: str | None

    @property
    def subject(self) -> str:
        """The dataset."""
        return self.dataset_id

    def held(self) -> ColumnElement[bool]:
        """The guard of every write."""
        return (
            (DatasetRow.id == self.dataset_id)
            & (DatasetRow.lease_epoch == self.epoch)
            & (DatasetRow.state == "validating")
            & DatasetRow.lease_expires_at.is_not(None)
        )

    def stale(self) -> StaleLeaseError:
        """The error of a write that found the guard broken."""
        return StaleLeaseError(f"ingestion {self.epoch} of dataset {self.dataset_id} is gone: deleted or taken back")


def claim(session: Session, dataset_id: str, *, seconds: float) -> Ingestion | None:
    """Take a dataset that waits for its validation; None if somebody else has it or it does not wait."""
    row = session.scalars(
        select(DatasetRow)
        .where(
            DatasetRow.id == dataset_id,
            waiting(),
            DatasetRow.run_after <= func.clock_timestamp(),
        )
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    if row.state != "validating":
        move_dataset(session, dataset_id, "validating")
    epoch = row.lease_epoch + 1
    _update(
        session,
        DatasetRow.id == dataset_id,
        lease_epoch=epoch,
        lease_expires_at=func.clock_timestamp() + timedelta(seconds=seconds),
    )
    archive = row.source.get("sha256") if row.source["kind"] == "upload" else None
    source = {"kind": "upload"} if row.source["kind"] == "upload" else row.source
    spec = DatasetSpec.model_validate({"name": row.name, "source": source, **row.options})
    return Ingestion(dataset_id, row.tenant_id, epoch, seconds, spec, archive)


def waiting() -> ColumnElement[bool]:
    """Datasets that nobody validates and somebody should: an upload that is complete, or what needs no upload."""
    return DatasetRow.lease_expires_at.is_(None) & or_(
        DatasetRow.state == "validating",
        (DatasetRow.state == "pending") & (DatasetRow.source["kind"].astext != "upload"),
    )


def renew(session: Session, job: Ingestion) -> None:
    """Prolong the lease. Raises StaleLeaseError."""
    if not _update(session, job.held(), lease_expires_at=func.clock_timestamp() + timedelta(seconds=job.seconds)):
        raise job.stale()


def ready(
    session: Session,
    job: Ingestion,
    *,
    manifest: dict[str, Any],
    profile: dict[str, Any],
    report: dict[str, Any],
) -> None:
    """The dataset can be searched on; its files are in the blob store. Raises StaleLeaseError."""
    _end(
        session,
        job,
        "ready",
        manifest=manifest,
        profile=profile,
        report=report,
        fingerprint=profile["fingerprint"],
        error=None,
    )


def reject(session: Session, job: Ingestion, error: dict[str, Any], report: dict[str, Any] | None) -> None:
    """The dataset cannot be used; `error` {code, detail, ...} says why. Raises StaleLeaseError."""
    _end(session, job, "rejected", error=error, report=report)
    counters.add(session, counters.UPLOADS_REJECTED, error["code"])


def release(session: Session, job: Ingestion) -> None:
    """Hand the dataset back: another worker begins anew. This is no crash. Raises StaleLeaseError."""
    now = func.clock_timestamp()
    if not _update(session, job.held(), lease_expires_at=None, run_after=now, woken_at=now):
        raise job.stale()
    enqueue(session, INGEST, job.dataset_id)


def crash(
    session: Session,
    dataset_id: str,
    epoch: int,
    error: dict[str, Any],
    *guards: ColumnElement[bool],
    max_crashes: int,
    back_off: float,
) -> str | None:
    """The validation ended without a word: try again later, or reject with `error` after `max_crashes`.

    Returns the state it came to; None if the epoch has gone on or one of `guards` does not hold.
    """
    row = session.scalars(
        select(DatasetRow)
        .where(
            DatasetRow.id == dataset_id,
            DatasetRow.lease_epoch == epoch,
            DatasetRow.state == "validating",
            DatasetRow.lease_expires_at.is_not(None),
            *guards,
        )
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    crashes = row.crash_count + 1
    if crashes >= max_crashes:
        move_dataset(session, dataset_id, "rejected", error=error, crash_count=crashes, lease_expires_at=None)
        counters.add(session, counters.UPLOADS_REJECTED, error["code"])
        return "rejected"
    due = func.clock_timestamp() + timedelta(seconds=back_off * 2 ** (crashes - 1))
    _update(
        session,
        DatasetRow.id == dataset_id,
        lease_expires_at=None,
        crash_count=crashes,
        run_after=due,
        woken_at=due,
        error=error,
    )
    session.refresh(row)
    enqueue(session, INGEST, dataset_id, send_after=row.run_after)
    return "validating"


def _end(session: Session, job: Ingestion, target: str, **values: Any) -> None:
    assert target in states.DATASET
    if not move_dataset(session, job.dataset_id, target, job.held(), lease_expires_at=None, **values):
        raise job.stale()


def _update(session: Session, guard: ColumnElement[bool], **values: Any) -> bool:
    updated = session.execute(
        update(DatasetRow)
        .where(guard)
        .values(updated_at=func.clock_timestamp(), **values)
        .returning(DatasetRow.id)
        .execution_options(synchronize_session=False)
    )
    return updated.one_or_none() is not None
