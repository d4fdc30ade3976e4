"""Webhooks: rows and lists, and what is to be delivered to them, written with the event that it announces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import outbox
from paretofit.db.ids import new_id
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
"""The types of events that can be delivered: a search was accepted, or is in another state now."""


def insert(session: Session, tenant: str, *, url: str, events: Sequence[str], secret: str) -> WebhookRow:
    """A new webhook."""
    row = WebhookRow(id=new_id("wh"), tenant_id=tenant, url=url, events=list(events), secret=secret)
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def count(session: Session, tenant: str) -> int:
    """How many a tenant has."""
    return session.scalar(select(func.count()).where(WebhookRow.tenant_id == tenant)) or 0


def get(session: Session, tenant: str, webhook_id: str) -> WebhookRow | None:
    """A webhook of this tenant."""
    return session.scalar(select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.tenant_id == tenant))


def page(session: Session, tenant: str, *, after: Keyset | None, limit: int) -> Sequence[WebhookRow]:
    """At most `limit` webhooks, newest first."""
    query = select(WebhookRow).where(WebhookRow.tenant_id == tenant)
    return session.scalars(newest_first(query, WebhookRow.created_at, WebhookRow.id, after).limit(limit)).all()


def change(session: Session, tenant: str, webhook_id: str, **values: Any) -> WebhookRow | None:
    """Give a webhook of this tenant other values; None: there is none."""
    return session.scalars(
        update(WebhookRow)
        .where(WebhookRow.id == webhook_id, WebhookRow.tenant_id == tenant)
        .values(**values)
        .returning(WebhookRow)
        .execution_options(populate_existing=True, synchronize_session=False)
    ).one_or_none()


def delete(session: Session, tenant: str, webhook_id: str) -> bool:
    """Remove a webhook with its deliveries. False: there is none."""
    gone = session.execute(
        sql_delete(WebhookRow)
        .where(WebhookRow.id == webhook_id, WebhookRow.tenant_id == tenant)
        .returning(WebhookRow.id)
        .execution_options(synchronize_session=False)
    )
    return gone.one_or_none() is not None


def deliveries(session: Session, webhook_id: str, *, after: Keyset | None, limit: int) -> Sequence[DeliveryRow]:
    """At most `limit` deliveries of a webhook, newest first."""
    query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id)
    return session.scalars(newest_first(query, DeliveryRow.created_at, DeliveryRow.id, after).limit(limit)).all()


def announce(session: Session, tenant: str, search_id: str, seq: int, kind: str, data: dict[str, Any]) -> None:
    """An event was appended to a search: have it delivered to the tenant's webhooks that want it."""
    if kind not in EVENTS:
        return
    wanted = session.scalars(
        select(WebhookRow.id).where(
            WebhookRow.tenant_id == tenant, WebhookRow.enabled, WebhookRow.events.contains([kind])
        )
    ).all()
    if not wanted:
        return
    about = {"search_id": search_id, "seq": seq, **data}
    body = json.dumps({"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": about})
    for webhook_id in wanted:
        row = DeliveryRow(id=new_id("msg"), tenant_id=tenant, webhook_id=webhook_id, type=kind, body=body)
        session.add(row)
        outbox.enqueue(session, outbox.DELIVER, row.id)
