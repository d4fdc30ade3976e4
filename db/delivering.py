"""A delivery to a webhook as a leased job: claim, renew, then delivered, failed, or queued for another attempt. The
guard of every write is the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from paretofit.db import states
from paretofit.db.leases import StaleLeaseError
from paretofit.db.outbox import DELIVER, enqueue
from paretofit.db.tables import DeliveryRow, WebhookRow
from paretofit.db.transitions import move_delivery

PAUSES: Final = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds before each further attempt, three days in all: the schedule that Standard Webhooks recommends."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The right to send a message to a webhook."""

    delivery_id: str
    epoch: int
    seconds: float
    webhook_id: str
    url: str
    body: str
    attempts: int
    secret: str = field(repr=False)

    @property
    def subject(self) -> str:
        """The delivery."""
        return self.delivery_id

    def held(self) -> ColumnElement[bool]:
        """The guard of every write."""
        return (
            (DeliveryRow.id == self.delivery_id)
            & (DeliveryRow.lease_epoch == self.epoch)
            & (DeliveryRow.state == "running")
        )

    def stale(self) -> StaleLeaseError:
        """The error of a write that found the guard broken."""
        return StaleLeaseError(f"attempt {self.epoch} of delivery {self.delivery_id} is gone: deleted or taken back")


def claim(session: Session, delivery_id: str, *, seconds: float) -> Delivery | None:
    """Take a delivery that is due; None if somebody else has it or it does not wait. One to a webhook that is switched
    off fails."""
    found = session.execute(
        select(DeliveryRow, WebhookRow)
        .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        .where(DeliveryRow.id == delivery_id, DeliveryRow.state == "queued")
    ).one_or_none()
    if found is None:
        return None
    row, webhook = found
    if not webhook.enabled:
        move_delivery(
            session, delivery_id, "failed", error={"code": "disabled", "detail": "its webhook is switched off"}
        )
        return None
    expires = func.clock_timestamp() + timedelta(seconds=seconds)
    due = DeliveryRow.run_after <= func.clock_timestamp()
    taken = {"lease_epoch": DeliveryRow.lease_epoch + 1, "lease_expires_at": expires}
    if not move_delivery(session, delivery_id, "running", due, **taken):
        return None
    session.refresh(row)
    return Delivery(
        delivery_id=delivery_id,
        epoch=row.lease_epoch,
        seconds=seconds,
        webhook_id=webhook.id,
        url=webhook.url,
        body=row.body,
        attempts=row.attempts,
        secret=webhook.secret,
    )


def renew(session: Session, job: Delivery) -> None:
    """Prolong the lease. Raises StaleLeaseError."""
    renewed = session.execute(
        update(DeliveryRow)
        .where(job.held())
        .values(lease_expires_at=func.clock_timestamp() + timedelta(seconds=job.seconds))
        .returning(DeliveryRow.id)
        .execution_options(synchronize_session=False)
    )
    if renewed.one_or_none() is None:
        raise job.stale()


def delivered(session: Session, job: Delivery, status: int) -> None:
    """The receiver has it. Raises StaleLeaseError."""
    done = {"attempts": DeliveryRow.attempts + 1, "status": status, "error": None}
    if not move_delivery(session, job.delivery_id, "delivered", job.held(), **done):
        raise job.stale()


def fail(session: Session, job: Delivery, error: dict[str, Any], status: int | None) -> None:
    """It will not be tried again; `error` {code, detail} says why. Raises StaleLeaseError."""
    ended = {"attempts": DeliveryRow.attempts + 1, "status": status, "error": error}
    if not move_delivery(session, job.delivery_id, "failed", job.held(), **ended):
        raise job.stale()


def disable(session: Session, webhook_id: str) -> None:
    """The receiver is gone for good: nothing more is sent to this webhook."""
    session.execute(
        update(WebhookRow)
        .where(WebhookRow.id == webhook_id)
        .values(enabled=False)
        .execution_options(synchronize_session=False)
    )


def release(session: Session, job: Delivery) -> None:
    """Hand the delivery back: another worker begins anew. This is no attempt. Raises StaleLeaseError."""
    now = func.clock_timestamp()
    if not move_delivery(session, job.delivery_id, "queued", job.held(), run_after=now, woken_at=now):
        raise job.stale()
    enqueue(session, DELIVER, job.delivery_id)


def crash(
    session: Session,
    delivery_id: str,
    epoch: int,
    error: dict[str, Any],
    *guards: ColumnElement[bool],
    status: int | None = None,
) -> str | None:
    """An attempt did not arrive: try again by the schedule, or fail with `error` at its end.

    Returns the state it came to; None if the epoch has gone on or one of `guards` does not hold.
    """
    held = (DeliveryRow.lease_epoch == epoch, DeliveryRow.state == "running", *guards)
    row = session.scalars(
        select(DeliveryRow).where(DeliveryRow.id == delivery_id, *held).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    made = {"attempts": row.attempts + 1, "error": error, "status": status}
    if row.attempts >= len(PAUSES):
        move_delivery(session, delivery_id, "failed", *held, **made)
        return "failed"
    due = func.clock_timestamp() + timedelta(seconds=PAUSES[row.attempts])
    move_delivery(session, delivery_id, "queued", *held, run_after=due, woken_at=due, **made)
    session.refresh(row)
    enqueue(session, DELIVER, delivery_id, send_after=row.run_after)
    return "queued"


def forget(session: Session, seconds: float) -> None:
    """Remove the deliveries that ended more than `seconds` ago."""
    session.execute(
        delete(DeliveryRow).where(
            DeliveryRow.state.in_(states.terminal(states.DELIVERY)),
            DeliveryRow.updated_at < func.clock_timestamp() - timedelta(seconds=seconds),
        )
    )
