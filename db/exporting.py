"""An export as a leased job: claim, renew, then ready or failed. The guard of every write is the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from paretofit.db.blobs import Blob
from paretofit.db.leases import StaleLeaseError
from paretofit.db.outbox import EXPORT, enqueue
from paretofit.db.tables import ArtifactRow, ExportRow, PointRow, SearchRow
from paretofit.db.transitions import move_export


@dataclass(frozen=True, slots=True)
class ExportJob:
    """The right to make an export. `method` is the kind of the point's search, `record` the point's."""

    export_id: str
    epoch: int
    seconds: float
    search_id: str
    tenant_id: str
    method: str
    record: dict[str, Any]
    source_sha256: str
    from_supernet: bool
    format: str
    precision: str
    size: tuple[int, int]

    @property
    def subject(self) -> str:
        """The export."""
        return self.export_id

    def held(self) -> ColumnElement[bool]:
        """The guard of every write."""
        return (ExportRow.id == self.export_id) & (ExportRow.lease_epoch == self.epoch) & (ExportRow.state == "running")

    def stale(self) -> StaleLeaseError:
        """The error of a write that found the guard broken."""
        return StaleLeaseError(f"attempt {self.epoch} of export {self.export_id} is gone: deleted or taken back")


def claim(session: Session, export_id: str, *, seconds: float) -> ExportJob | None:
    """Take an export that waits; None if somebody else has it or it does not wait."""
    due = ExportRow.run_after <= func.clock_timestamp()
    expires = func.clock_timestamp() + timedelta(seconds=seconds)
    taken = {"lease_epoch": ExportRow.lease_epoch + 1, "lease_expires_at": expires}
    if not move_export(session, export_id, "running", due, **taken):
        return None
    row, point, method = session.execute(
        select(ExportRow, PointRow, SearchRow.method)
        .join(PointRow, PointRow.id == ExportRow.point_id)
        .join(SearchRow, SearchRow.id == PointRow.search_id)
        .where(ExportRow.id == export_id)
    ).one()
    return ExportJob(
        export_id=export_id,
        epoch=row.lease_epoch,
        seconds=seconds,
        search_id=point.search_id,
        tenant_id=row.tenant_id,
        method=method,
        record=point.record,
        source_sha256=row.source_sha256,
        from_supernet=row.from_supernet,
        format=row.format,
        precision=row.precision,
        size=(row.height, row.width),
    )


def renew(session: Session, job: ExportJob) -> None:
    """Prolong the lease. Raises StaleLeaseError."""
    renewed = session.execute(
        update(ExportRow)
        .where(job.held())
        .values(lease_expires_at=func.clock_timestamp() + timedelta(seconds=job.seconds))
        .returning(ExportRow.id)
        .execution_options(synchronize_session=False)
    )
    if renewed.one_or_none() is None:
        raise job.stale()


def ready(session: Session, job: ExportJob, *, name: str, blob: Blob, media_type: str, parity: dict[str, Any]) -> None:
    """The file is in the blob store and computes what PyTorch does. Raises StaleLeaseError."""
    if not move_export(session, job.export_id, "ready", job.held(), parity=parity, error=None):
        raise job.stale()
    session.add(
        ArtifactRow(
            id=job.export_id,
            tenant_id=job.tenant_id,
            search_id=job.search_id,
            name=name,
            sha256=blob.sha256,
            size=blob.size,
            media_type=media_type,
        )
    )


def fail(session: Session, job: ExportJob, error: dict[str, Any]) -> None:
    """There will be no file; `error` {code, detail, ...} says why. Raises StaleLeaseError."""
    if not move_export(session, job.export_id, "failed", job.held(), error=error):
        raise job.stale()


def release(session: Session, job: ExportJob) -> None:
    """Hand the export back: another worker begins anew. This is no crash. Raises StaleLeaseError."""
    now = func.clock_timestamp()
    if not move_export(session, job.export_id, "queued", job.held(), run_after=now, woken_at=now):
        raise job.stale()
    enqueue(session, EXPORT, job.export_id)


def crash(
    session: Session,
    export_id: str,
    epoch: int,
    error: dict[str, Any],
    *guards: ColumnElement[bool],
    max_crashes: int,
    back_off: float,
) -> str | None:
    """An attempt ended without a word: try again later, or fail with `error` after `max_crashes`.

    Returns the state it came to; None if the epoch has gone on or one of `guards` does not hold.
    """
    held = (ExportRow.lease_epoch == epoch, ExportRow.state == "running", *guards)
    row = session.scalars(
        select(ExportRow).where(ExportRow.id == export_id, *held).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    crashes = row.crash_count + 1
    if crashes >= max_crashes:
        move_export(session, export_id, "failed", *held, error=error, crash_count=crashes)
        return "failed"
    due = func.clock_timestamp() + timedelta(seconds=back_off * 2 ** (crashes - 1))
    move_export(session, export_id, "queued", *held, error=error, crash_count=crashes, run_after=due, woken_at=due)
    session.refresh(row)
    enqueue(session, EXPORT, export_id, send_after=row.run_after)
    return "queued"
