"""Trained weights: rows, lists, lookup for searches that start from them, and conversion as a leased job
(`paretofit.db.jobs`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from paretofit.db import jobs, outbox
from paretofit.db.blobs import Blob
from paretofit.db.ids import new_id
from paretofit.db.jobs import WEIGHTS, Job
from paretofit.db.keyset import Keyset, newest_first
from paretofit.db.tables import WeightsRow
from paretofit.search.contracts.weights import WeightsSpec


def insert(session: Session, tenant: str, *, name: str, source: dict[str, Any], options: dict[str, Any]) -> WeightsRow:
    """Insert weights in state `pending`. Weights of a named source are enqueued for conversion, which fetches them."""
    row = WeightsRow(id=new_id("wts"), tenant_id=tenant, name=name, source=source, options=options)
    session.add(row)
    session.flush()
    session.refresh(row)
    if source["kind"] != "upload":
        outbox.enqueue(session, outbox.CONVERT, row.id)
    return row


def get(session: Session, tenant: str, weights_id: str) -> WeightsRow | None:
    """Weights of this tenant."""
    return session.scalar(select(WeightsRow).where(WeightsRow.id == weights_id, WeightsRow.tenant_id == tenant))


def start(session: Session, tenant: str, reference: str) -> WeightsRow | None:
    """The weights of this tenant with this id or name, locked against deletion until the transaction ends. Of several
    with the same name, the newest that are ready, or the newest if none is."""
    named = or_(WeightsRow.id == reference, WeightsRow.name == reference)
    query = (
        select(WeightsRow)
        .where(WeightsRow.tenant_id == tenant, named)
        .order_by(
            (WeightsRow.id == reference).desc(),
            (WeightsRow.state == "ready").desc(),
            WeightsRow.created_at.desc(),
            WeightsRow.id.desc(),
        )
        .limit(1)
    )
    return session.scalar(query.with_for_update(read=True).execution_options(populate_existing=True))


def page(session: Session, tenant: str, *, state: str | None, after: Keyset | None, limit: int) -> Sequence[WeightsRow]:
    """At most `limit` weights, newest first."""
    query = select(WeightsRow).where(WeightsRow.tenant_id == tenant)
    if state is not None:
        query = query.where(WeightsRow.state == state)
    return session.scalars(newest_first(query, WeightsRow.created_at, WeightsRow.id, after).limit(limit)).all()


def delete(session: Session, tenant: str, weights_id: str) -> bool:
    """Delete weights in any state. False: they do not exist.

    Searches that start from them have the file as their own artifact; otherwise garbage collection deletes it. A
    conversion in progress loses its lease.
    """
    deleted = session.execute(
        sql_delete(WeightsRow)
        .where(WeightsRow.id == weights_id, WeightsRow.tenant_id == tenant)
        .returning(WeightsRow.id)
        .execution_options(synchronize_session=False)
    )
    return deleted.one_or_none() is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionJob(Job):
    """A lease on the conversion of weights. `spec` is the request; `file` the SHA-256 of the uploaded file and
    `uploaded` its size, None and 0 for a named source."""

    tenant: str
    spec: WeightsSpec
    file: str | None
    uploaded: int


def claim(session: Session, weights_id: str, *, seconds: float) -> ConversionJob | None:
    """Claim weights for conversion; None if another worker has them or they are not waiting."""
    row = jobs.claim(session, WEIGHTS, weights_id, seconds=seconds)
    if row is None:
        return None
    is_upload = row.source["kind"] == "upload"
    source = {"kind": "upload"} if is_upload else row.source
    return ConversionJob(
        kind=WEIGHTS,
        subject=row.id,
        epoch=row.lease_epoch,
        seconds=seconds,
        tenant=row.tenant_id,
        spec=WeightsSpec.model_validate({"name": row.name, "source": source, **row.options}),
        file=row.source["sha256"] if is_upload else None,
        uploaded=row.source["size"] if is_upload else 0,
    )


def mark_ready(session: Session, job: ConversionJob, *, record: dict[str, Any], blob: Blob) -> None:
    """Mark weights as ready; `blob` is the converted file. Raises StaleLeaseError."""
    jobs.end(session, job, "ready", record=record, sha256=blob.sha256, size=blob.size, error=None)
