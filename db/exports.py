"""Exports as they are asked for and read: a point's network as a file of another format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from paretofit.db import outbox
from paretofit.db.ids import new_id
from paretofit.db.points import FoundPoint
from paretofit.db.tables import ArtifactRow, ExportRow
from paretofit.db.transitions import move_export


@dataclass(frozen=True, slots=True)
class Form:
    """What the file is to be: `size` is the input's height and width, pixels."""

    format: str
    precision: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """The blob that a point's weights come from: its own checkpoint, or the supernet that it is cut from."""

    sha256: str
    supernet: bool


@dataclass(frozen=True, slots=True)
class FoundExport:
    """An export, and its file if it is ready."""

    row: ExportRow
    artifact: ArtifactRow | None


_FOUND = select(ExportRow, ArtifactRow).outerjoin(ArtifactRow, ArtifactRow.id == ExportRow.id)


def source(session: Session, point: FoundPoint) -> Source | None:
    """Where a point's weights are; None: its trial has not reported them yet."""
    if point.artifact is not None:
        return Source(point.artifact.sha256, supernet=False)
    name = point.row.record.get("supernet")
    sha256 = session.scalar(
        select(ArtifactRow.sha256).where(ArtifactRow.trial_id == point.row.trial_id, ArtifactRow.name == name)
    )
    return None if sha256 is None else Source(sha256, supernet=True)


def request(session: Session, point: FoundPoint, weights: Source, form: Form) -> FoundExport:
    """The export of this form: the one that is there already, or a new one, sent to a worker. A failed one is tried
    again."""
    height, width = form.size
    same: dict[str, Any] = {
        "point_id": point.row.id,
        "source_sha256": weights.sha256,
        "format": form.format,
        "precision": form.precision,
        "height": height,
        "width": width,
    }
    made = session.scalar(
        insert(ExportRow)
        .values(id=new_id("art"), tenant_id=point.row.tenant_id, from_supernet=weights.supernet, **same)
        .on_conflict_do_nothing()
        .returning(ExportRow.id)
    )
    export_id = made or session.scalars(select(ExportRow.id).filter_by(**same)).one()
    now = func.clock_timestamp()
    again = ExportRow.state == "failed"
    if made or move_export(session, export_id, "queued", again, error=None, crash_count=0, run_after=now, woken_at=now):
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
