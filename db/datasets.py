"""Datasets: rows, uploads, lists, and their validation, which is a leased job (`paretofit.db.jobs`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import exists, select
from sqlalchemy.orm import Session, defer

from paretofit.db import jobs, outbox
from paretofit.db.ids import new_id
from paretofit.db.jobs import DATASETS, Job
from paretofit.db.keyset import Keyset, newest_first
from paretofit.db.tables import DatasetRow, SearchRow
from paretofit.search.contracts.dataset import DatasetSpec


def insert(session: Session, tenant: str, *, name: str, source: dict[str, Any], options: dict[str, Any]) -> DatasetRow:
    """Insert a dataset in state `pending`. Its ingestion is enqueued if it needs no upload."""
    row = DatasetRow(id=new_id("ds"), tenant_id=tenant, name=name, source=source, options=options)
    session.add(row)
    session.flush()
    session.refresh(row)
    if source["kind"] != "upload":
        outbox.enqueue(session, outbox.INGEST, row.id)
    return row


def get(session: Session, tenant: str, dataset_id: str) -> DatasetRow | None:
    """A dataset of this tenant."""
    return session.scalar(select(DatasetRow).where(DatasetRow.id == dataset_id, DatasetRow.tenant_id == tenant))


def names(session: Session, ids: Iterable[str]) -> dict[str, str]:
    """The names of datasets by id."""
    found = session.execute(select(DatasetRow.id, DatasetRow.name).where(DatasetRow.id.in_(set(ids))))
    return dict(found.tuples().all())


def class_counts(session: Session, dataset_id: str) -> dict[str, dict[str, int]] | None:
    """Number of images by split and class; None if validation did not count them."""
    return session.scalar(select(DatasetRow.report["class_counts"]).where(DatasetRow.id == dataset_id))


def page(session: Session, tenant: str, *, state: str | None, after: Keyset | None, limit: int) -> Sequence[DatasetRow]:
    """At most `limit` datasets, newest first; their manifests and reports, which may be large, are not loaded."""
    large = (DatasetRow.manifest, DatasetRow.report)
    query = select(DatasetRow).options(*(defer(column, raiseload=True) for column in large))
    query = query.where(DatasetRow.tenant_id == tenant)
    if state is not None:
        query = query.where(DatasetRow.state == state)
    return session.scalars(newest_first(query, DatasetRow.created_at, DatasetRow.id, after).limit(limit)).all()


def delete(session: Session, tenant: str, dataset_id: str) -> bool:
    """Delete a dataset that no search uses. False: it does not exist, or a search uses it.

    Garbage collection removes the files. A search that is submitted concurrently fails on its foreign key.
    """
    used = exists().where(SearchRow.dataset_id == DatasetRow.id)
    deleted = session.execute(
        sql_delete(DatasetRow)
        .where(DatasetRow.id == dataset_id, DatasetRow.tenant_id == tenant, ~used)
        .returning(DatasetRow.id)
        .execution_options(synchronize_session=False)
    )
    return deleted.one_or_none() is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationJob(Job):
    """A lease on the validation of a dataset. `spec` is the request; `archive` is the SHA-256 of the upload."""

    tenant: str
    spec: DatasetSpec
    archive: str | None


def claim(session: Session, dataset_id: str, *, seconds: float) -> ValidationJob | None:
    """Claim a dataset for validation; None if another worker has it or it is not waiting."""
    row = jobs.claim(session, DATASETS, dataset_id, seconds=seconds)
    if row is None:
        return None
    is_upload = row.source["kind"] == "upload"
    source = {"kind": "upload"} if is_upload else row.source
    return ValidationJob(
        kind=DATASETS,
        subject=row.id,
        epoch=row.lease_epoch,
        seconds=seconds,
        tenant=row.tenant_id,
        spec=DatasetSpec.model_validate({"name": row.name, "source": source, **row.options}),
        archive=row.source.get("sha256") if is_upload else None,
    )


def mark_ready(
    session: Session,
    job: ValidationJob,
    *,
    manifest: dict[str, Any],
    profile: dict[str, Any],
    report: dict[str, Any],
) -> None:
    """Mark a dataset as ready; its files are in the blob store. Raises StaleLeaseError."""
    found = {"manifest": manifest, "profile": profile, "report": report, "fingerprint": profile["fingerprint"]}
    jobs.end(session, job, "ready", **found, error=None)
