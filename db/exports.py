"""Exports of a point's network to other file formats. A leased job writes each file (`paretofit.db.jobs`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from paretofit.db import jobs, outbox
from paretofit.db.blobs import Blob
from paretofit.db.ids import new_id
from paretofit.db.jobs import EXPORTS, Job
from paretofit.db.points import FoundPoint
from paretofit.db.tables import ArtifactRow, ExportRow, PointRow, SearchRow


@dataclass(frozen=True, slots=True)
class Form:
    """The requested file; `size` is the input's height and width, pixels."""

    format: str
    precision: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """The blob of a point's weights: its own checkpoint, or the supernet that it is extracted from."""

    sha256: str
    supernet: bool


@dataclass(frozen=True, slots=True)
class FoundExport:
    """An export, and its file if it is ready."""

    row: ExportRow
    artifact: ArtifactRow | None


_FOUND = select(ExportRow, ArtifactRow).outerjoin(ArtifactRow, ArtifactRow.id == ExportRow.id)


def source(session: Session, point: FoundPoint) -> Source | None:
    """The source of a point's weights; None: its trial has not reported them yet."""
    if point.artifact is not None:
        return Source(point.artifact.sha256, supernet=False)
    name = point.row.record.get("supernet")
    sha256 = session.scalar(
        select(ArtifactRow.sha256).where(ArtifactRow.trial_id == point.row.trial_id, ArtifactRow.name == name)
    )
    return None if sha256 is None else Source(sha256, supernet=True)


def request(session: Session, point: FoundPoint, weights: Source, form: Form) -> FoundExport:
    """The existing export of this form, or a new one, which is enqueued. A failed export is retried."""
    height, width = form.size
    same: dict[str, Any] = {
        "point_id": point.row.id,
        "source_sha256": weights.sha256,
        "format": form.format,
        "precision": form.precision,
        "height": height,
        "width": width,
    }
    inserted = session.scalar(
        insert(ExportRow)
        .values(id=new_id("art"), tenant_id=point.row.tenant_id, from_supernet=weights.supernet, **same)
        .on_conflict_do_nothing()
        .returning(ExportRow.id)
    )
    export_id = inserted or session.scalars(select(ExportRow.id).filter_by(**same)).one()
    now = func.clock_timestamp()
    reset = {"error": None, "crash_count": 0, "run_after": now, "woken_at": now}
    if inserted or jobs.move(session, EXPORTS, export_id, "queued", ExportRow.state == "failed", **reset):
        outbox.enqueue(session, outbox.EXPORT, export_id)
    found = session.execute(_FOUND.where(ExportRow.id == export_id).execution_options(populate_existing=True))
    return FoundExport(*found.one())


def get(session: Session, tenant: str, export_id: str) -> FoundExport | None:
    """An export of this tenant."""
    found = session.execute(_FOUND.where(ExportRow.id == export_id, ExportRow.tenant_id == tenant)).one_or_none()
    return None if found is None else FoundExport(*found)


def of_point(session: Session, point_id: str) -> Sequence[FoundExport]:
    """The exports of a point, oldest first."""
    found = session.execute(_FOUND.where(ExportRow.point_id == point_id).order_by(ExportRow.id))
    return [FoundExport(*each) for each in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob(Job):
    """A lease on an export. `method` is the kind of the point's search, `record` the point's record, `size` the input's
    height and width, pixels."""

    search_id: str
    tenant_id: str
    method: str
    record: dict[str, Any]
    source_sha256: str
    from_supernet: bool
    format: str
    precision: str
    size: tuple[int, int]


def claim(session: Session, export_id: str, *, seconds: float) -> ExportJob | None:
    """Claim an export; None if another worker has it or it is not waiting."""
    row = jobs.claim(session, EXPORTS, export_id, seconds=seconds)
    if row is None:
        return None
    point, method = session.execute(
        select(PointRow, SearchRow.method)
        .join(SearchRow, SearchRow.id == PointRow.search_id)
        .where(PointRow.id == row.point_id)
    ).one()
    return ExportJob(
        kind=EXPORTS,
        subject=row.id,
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


def mark_ready(
    session: Session, job: ExportJob, *, name: str, blob: Blob, media_type: str, parity: dict[str, Any]
) -> None:
    """Mark an export as ready; its file is in the blob store and matches PyTorch. Raises StaleLeaseError."""
    jobs.end(session, job, "ready", parity=parity, error=None)
    session.add(
        ArtifactRow(
            id=job.subject,
            tenant_id=job.tenant_id,
            search_id=job.search_id,
            name=name,
            sha256=blob.sha256,
            size=blob.size,
            media_type=media_type,
        )
    )
