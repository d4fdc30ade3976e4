"""The conversion of weights as a leased job: claim, renew, then ready or rejected. The guard of every write is the
epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from paretofit.db import counters
from paretofit.db.blobs import Blob
from paretofit.db.leases import StaleLeaseError
from paretofit.db.outbox import CONVERT, enqueue
from paretofit.db.tables import WeightsRow
from paretofit.db.transitions import move_weights
from paretofit.search.weights.spec import WeightsSpec


@dataclass(frozen=True, slots=True)
class Conversion:
    """The right to convert weights of a tenant. `spec` is the request; `file` the SHA-256 of the uploaded file and
    `uploaded` its size, None and 0 for a named source."""

    weights_id: str
    tenant: str
    epoch: int
    seconds: float
    spec: WeightsSpec
    file: str | None
    uploaded: int = 0

    @property
    def subject(self) -> str:
        """The weights."""
        return self.weights_id

    def held(self) -> ColumnElement[bool]:
        """The guard of every write."""
        return (
            (WeightsRow.id == self.weights_id)
            & (WeightsRow.lease_epoch == self.epoch)
            & (WeightsRow.state == "converting")
            & WeightsRow.lease_expires_at.is_not(None)
        )

    def stale(self) -> StaleLeaseError:
        """The error of a write that found the guard broken."""
        return StaleLeaseError(f"conversion {self.epoch} of weights {self.weights_id} is gone: deleted or taken back")


def claim(session: Session, weights_id: str, *, seconds: float) -> Conversion | None:
    """Take weights that wait for their conversion; None if another worker has them or they do not wait."""
    row = session.scalars(
        select(WeightsRow)
        .where(WeightsRow.id == weights_id, waiting(), WeightsRow.run_after <= func.clock_timestamp())
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    if row.state != "converting":
        move_weights(session, weights_id, "converting")
    epoch = row.lease_epoch + 1
    _update(
        session,
        WeightsRow.id == weights_id,
        lease_epoch=epoch,
        lease_expires_at=func.clock_timestamp() + timedelta(seconds=seconds),
    )
    uploaded = row.source["kind"] == "upload"
    source = {"kind": "upload"} if uploaded else row.source
    spec = WeightsSpec.model_validate({"name": row.name, "source": source, **row.options})
    job = Conversion(weights_id, row.tenant_id, epoch, seconds, spec, file=None)
    return replace(job, file=row.source["sha256"], uploaded=row.source["size"]) if uploaded else job


def waiting() -> ColumnElement[bool]:
    """Weights that no worker converts and one should: an upload that is complete, or a named source."""
    return WeightsRow.lease_expires_at.is_(None) & or_(
        WeightsRow.state == "converting",
        (WeightsRow.state == "pending") & (WeightsRow.source["kind"].astext != "upload"),
    )


def renew(session: Session, job: Conversion) -> None:
    """Prolong the lease. Raises StaleLeaseError."""
    if not _update(session, job.held(), lease_expires_at=func.clock_timestamp() + timedelta(seconds=job.seconds)):
        raise job.stale()


def ready(session: Session, job: Conversion, *, record: dict[str, Any], blob: Blob) -> None:
    """Searches can start from the weights; `blob` is the converted file. Raises StaleLeaseError."""
    _end(session, job, "ready", record=record, sha256=blob.sha256, size=blob.size, error=None)


def reject(session: Session, job: Conversion, error: dict[str, Any]) -> None:
    """The weights cannot be used; `error` {code, detail} says why. Raises StaleLeaseError."""
    _end(session, job, "rejected", error=error)
    counters.add(session, counters.UPLOADS_REJECTED, error["code"])


def release(session: Session, job: Conversion) -> None:
    """Hand the weights back: another worker begins anew. This does not count as a crash. Raises StaleLeaseError."""
    now = func.clock_timestamp()
    if not _update(session, job.held(), lease_expires_at=None, run_after=now, woken_at=now):
        raise job.stale()
    enqueue(session, CONVERT, job.weights_id)


def crash(
    session: Session,
    weights_id: str,
    epoch: int,
    error: dict[str, Any],
    *guards: ColumnElement[bool],
    max_crashes: int,
    back_off: float,
) -> str | None:
    """The conversion ended without an answer: try again later, or reject with `error` after `max_crashes`.

    Returns the new state; None if the epoch has gone on or one of `guards` does not hold.
    """
    row = session.scalars(
        select(WeightsRow)
        .where(
            WeightsRow.id == weights_id,
            WeightsRow.lease_epoch == epoch,
            WeightsRow.state == "converting",
            WeightsRow.lease_expires_at.is_not(None),
            *guards,
        )
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    crashes = row.crash_count + 1
    if crashes >= max_crashes:
        move_weights(session, weights_id, "rejected", error=error, crash_count=crashes)
        counters.add(session, counters.UPLOADS_REJECTED, error["code"])
        return "rejected"
    due = func.clock_timestamp() + timedelta(seconds=back_off * 2 ** (crashes - 1))
    _update(
        session,
        WeightsRow.id == weights_id,
        lease_expires_at=None,
        crash_count=crashes,
        run_after=due,
        woken_at=due,
        error=error,
    )
    session.refresh(row)
    enqueue(session, CONVERT, weights_id, send_after=row.run_after)
    return "converting"


def _end(session: Session, job: Conversion, target: str, **values: Any) -> None:
    if not move_weights(session, job.weights_id, target, job.held(), **values):
        raise job.stale()


def _update(session: Session, guard: ColumnElement[bool], **values: Any) -> bool:
    updated = session.execute(
        update(WeightsRow)
        .where(guard)
        .values(updated_at=func.clock_timestamp(), **values)
        .returning(WeightsRow.id)
        .execution_options(synchronize_session=False)
    )
    return updated.one_or_none() is not None
