"""The state of uploads of dataset archives and weights files: `pending`, `uploading`, then enqueued for the leased job
that reads it (`paretofit.db.jobs`). Every write is guarded by the tenant and the state."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import jobs
from paretofit.db.jobs import DATASETS, WEIGHTS, JobKind
from paretofit.db.outbox import enqueue
from paretofit.db.tables import DatasetRow, WeightsRow

KINDS: Final[tuple[JobKind[Any], ...]] = (DATASETS, WEIGHTS)
"""The kinds of rows with uploads; the functions below take one of them."""


def get(session: Session, kind: JobKind[Any], tenant: str, subject: str) -> DatasetRow | WeightsRow | None:
    """The row that an upload belongs to, if it is this tenant's."""
    row = kind.row
    found: DatasetRow | WeightsRow | None = session.scalar(
        select(row).where(row.id == subject, row.tenant_id == tenant)
    )
    return found


def start(session: Session, kind: JobKind[Any], tenant: str, subject: str) -> bool:
    """Move a row to `uploading`, if it is not yet. False: its state does not allow it."""
    row = get(session, kind, tenant, subject)
    if row is None or row.state == "uploading":
        return row is not None
    return jobs.move(session, kind, subject, "uploading", kind.row.tenant_id == tenant) is not None


def keep(session: Session, kind: JobKind[Any], tenant: str, subject: str, uploaded_bytes: int) -> None:
    """Record the number of received bytes; with 0 the row returns to `pending`."""
    row = kind.row
    guards = (row.tenant_id == tenant, row.state == "uploading")
    if uploaded_bytes == 0:
        jobs.move(session, kind, subject, "pending", *guards, uploaded_bytes=0)
        return
    session.execute(
        update(row)
        .where(row.id == subject, *guards)
        .values(uploaded_bytes=uploaded_bytes, updated_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def abandon(session: Session, subject: str) -> None:
    """Return the row of a deleted upload, of either kind, to `pending`."""
    for kind in KINDS:
        jobs.move(session, kind, subject, "pending", kind.row.state == "uploading", uploaded_bytes=0)


def finish(session: Session, kind: JobKind[Any], tenant: str, subject: str, *, sha256: str, size: int) -> bool:
    """Enqueue the job that reads the complete upload (a blob). False: the row was deleted, or its state does not allow
    it."""
    row = kind.row
    moved = jobs.move(
        session,
        kind,
        subject,
        kind.queued,
        row.tenant_id == tenant,
        row.state == "uploading",
        uploaded_bytes=size,
        source=row.source.op("||")({"sha256": sha256, "size": size}),
    )
    if moved is not None:
        enqueue(session, kind.task, subject)
    return moved is not None
