"""Webhooks and their deliveries. A delivery is written in the transaction of its event; each attempt to send it is a
leased job (`paretofit.db.jobs`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import jobs, outbox, states
from paretofit.db.ids import new_id
from paretofit.db.jobs import DELIVERIES, Job
from paretofit.db.keyset import Keyset, newest_first
from paretofit.db.tables import DeliveryRow, WebhookRow

EVENTS: Final = (
    "search.created",
    "search.queued",
    "search.running",
    "search.paused",
    "search.succeeded",
    "search.failed",
    "search.cancelled",
)
"""The types of events that can be delivered: a search was created or changed its state."""


def insert(session: Session, tenant: str, *, url: str, events: Sequence[str], secret: str) -> WebhookRow:
    """Insert a webhook."""
    row = WebhookRow(id=new_id("wh"), tenant_id=tenant, url=url, events=list(events), secret=secret)
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def count(session: Session, tenant: str) -> int:
    """Number of webhooks of a tenant."""
    return session.scalar(select(func.count()).where(WebhookRow.tenant_id == tenant)) or 0


def get(session: Session, tenant: str, webhook_id: str) -> WebhookRow | None:
    """A webhook of this tenant."""
    return session.scalar(select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.tenant_id == tenant))


def page(session: Session, tenant: str, *, after: Keyset | None, limit: int) -> Sequence[WebhookRow]:
    """At most `limit` webhooks, newest first."""
    query = select(WebhookRow).where(WebhookRow.tenant_id == tenant)
    return session.scalars(newest_first(query, WebhookRow.created_at, WebhookRow.id, after).limit(limit)).all()


def change(session: Session, tenant: str, webhook_id: str, **values: Any) -> WebhookRow | None:
    """Update a webhook of this tenant; None: it does not exist."""
    return session.scalars(
        update(WebhookRow)
        .where(WebhookRow.id == webhook_id, WebhookRow.tenant_id == tenant)
        .values(**values)
        .returning(WebhookRow)
        .execution_options(populate_existing=True, synchronize_session=False)
    ).one_or_none()


def delete(session: Session, tenant: str, webhook_id: str) -> bool:
    """Delete a webhook with its deliveries. False: it does not exist."""
    deleted = session.execute(
        sql_delete(WebhookRow)
        .where(WebhookRow.id == webhook_id, WebhookRow.tenant_id == tenant)
        .returning(WebhookRow.id)
        .execution_options(synchronize_session=False)
    )
    return deleted.one_or_none() is not None


def deliveries(session: Session, webhook_id: str, *, after: Keyset | None, limit: int) -> Sequence[DeliveryRow]:
    """At most `limit` deliveries of a webhook, newest first."""
    query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id)
    return session.scalars(newest_first(query, DeliveryRow.created_at, DeliveryRow.id, after).limit(limit)).all()


def enqueue_deliveries(
    session: Session, tenant: str, search_id: str, seq: int, kind: str, data: dict[str, Any]
) -> None:
    """Enqueue the delivery of an event of a search to the tenant's webhooks that subscribe to its type."""
    if kind not in EVENTS:
        return
    subscribers = session.scalars(
        select(WebhookRow.id).where(
            WebhookRow.tenant_id == tenant, WebhookRow.enabled, WebhookRow.events.contains([kind])
        )
    ).all()
    if not subscribers:
        return
    payload = {"search_id": search_id, "seq": seq, **data}
    body = json.dumps({"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": payload})
    for webhook_id in subscribers:
        row = DeliveryRow(id=new_id("msg"), tenant_id=tenant, webhook_id=webhook_id, type=kind, body=body)
        session.add(row)
        outbox.enqueue(session, outbox.DELIVER, row.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryJob(Job):
    """A lease on a delivery."""

    webhook_id: str
    url: str
    body: str
    secret: str = field(repr=False)


def claim(session: Session, delivery_id: str, *, seconds: float) -> DeliveryJob | None:
    """Claim a delivery that is due; None if another worker has it or it is not waiting. A delivery to a disabled
    webhook fails."""
    webhook = session.scalars(
        select(WebhookRow)
        .join(DeliveryRow, DeliveryRow.webhook_id == WebhookRow.id)
        .where(DeliveryRow.id == delivery_id, DELIVERIES.waiting)
    ).one_or_none()
    if webhook is None:
        return None
    if not webhook.enabled:
        error = {"code": "disabled", "detail": "the webhook is disabled: enable it to receive further events"}
        jobs.move(session, DELIVERIES, delivery_id, "failed", DELIVERIES.waiting, error=error)
        return None
    row = jobs.claim(session, DELIVERIES, delivery_id, seconds=seconds)
    if row is None:
        return None
    return DeliveryJob(
        kind=DELIVERIES,
        subject=row.id,
        epoch=row.lease_epoch,
        seconds=seconds,
        webhook_id=webhook.id,
        url=webhook.url,
        body=row.body,
        secret=webhook.secret,
    )


def mark_delivered(session: Session, job: DeliveryJob, status: int) -> None:
    """End a delivery that the receiver accepted. Raises StaleLeaseError."""
    jobs.end(session, job, "delivered", attempts=DeliveryRow.attempts + 1, status=status, error=None)


def mark_failed(session: Session, job: DeliveryJob, error: dict[str, Any], status: int | None) -> None:
    """End a delivery that is not retried, with the reason `error` {code, detail}. Raises StaleLeaseError."""
    jobs.fail(session, job, error, attempts=DeliveryRow.attempts + 1, status=status)


def disable(session: Session, webhook_id: str) -> None:
    """Disable a webhook: nothing more is sent to it."""
    session.execute(
        update(WebhookRow)
        .where(WebhookRow.id == webhook_id)
        .values(enabled=False)
        .execution_options(synchronize_session=False)
    )


def purge_deliveries(session: Session, seconds: float) -> None:
    """Delete the deliveries that ended more than `seconds` ago."""
    session.execute(
        sql_delete(DeliveryRow).where(
            DeliveryRow.state.in_(states.terminal(states.DELIVERY)),
            DeliveryRow.updated_at < func.clock_timestamp() - timedelta(seconds=seconds),
        )
    )
