"""Webhooks: notifications of search state changes."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from paretofit.api import paging, problems, sources
from paretofit.api.access import requires
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.schemas.pages import Page
from paretofit.api.schemas.webhooks import IssuedWebhook, NewWebhook, Webhook, WebhookChanges, WebhookDelivery
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service
from paretofit.core.signatures import new_secret
from paretofit.db import tenants, webhooks
from paretofit.db.idempotency import StoredResponse
from paretofit.db.tables import DeliveryRow, WebhookRow

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
MAX_WEBHOOKS = 50


@router.post(
    "",
    dependencies=[requires("manage")],
    operation_id="create_webhook",
    status_code=201,
    response_model=IssuedWebhook,
    responses=problems.responses(
        problems.QuotaExceededError, problems.KeyInFlightError, problems.ShownOnceError, problems.KeyReusedError
    ),
)
def create(body: NewWebhook, tenant: Tenant, service: Service, once: IdempotentOnce) -> Response:
    """Create a webhook: search events are sent to a URL, signed as specified by Standard Webhooks. The secret is shown
    once."""
    sources.check_url(body.url, service.settings, pointer="/url")

    def effect(session: Session) -> StoredResponse:
        # Each event is sent to every webhook.
        tenants.lock(session, tenant)
        if webhooks.count(session, tenant) >= MAX_WEBHOOKS:
            raise problems.QuotaExceededError(
                f"the tenant already has {MAX_WEBHOOKS} webhooks, the maximum: delete one",
                headers={"Retry-After": "60"},
            )
        row = webhooks.insert(session, tenant, url=body.url, events=_ordered(body.events), secret=new_secret())
        shown = IssuedWebhook(**_webhook(row).model_dump(), secret=row.secret)
        return answer(201, shown, {"Location": f"/v1/webhooks/{row.id}"})

    return once.with_secret(effect)


@router.get("", dependencies=[requires("manage")], operation_id="list_webhooks", responses=problems.responses())
def read_list(session: Db, tenant: Tenant, limit: paging.Limit = 50, cursor: paging.Cursor = None) -> Page[Webhook]:
    """List the webhooks of the tenant, newest first."""
    rows = webhooks.page(session, tenant, after=paging.keyset(cursor), limit=limit + 1)
    return paging.newest_first(rows, limit, _webhook)


@router.get(
    "/{webhook_id}",
    dependencies=[requires("manage")],
    operation_id="get_webhook",
    responses=problems.responses(problems.NotFoundError),
)
def read(webhook_id: str, session: Db, tenant: Tenant) -> Webhook:
    """Get a webhook."""
    return _webhook(_found(session, tenant, webhook_id))


@router.patch(
    "/{webhook_id}",
    dependencies=[requires("manage")],
    operation_id="change_webhook",
    responses=problems.responses(problems.NotFoundError),
)
def change(webhook_id: str, changes: WebhookChanges, session: Db, tenant: Tenant, service: Service) -> Webhook:
    """Change, disable or enable a webhook. Queued deliveries of a disabled webhook fail."""
    row = _found(session, tenant, webhook_id)
    values = changes.model_dump(exclude_unset=True, exclude_none=True)
    if "url" in values:
        sources.check_url(values["url"], service.settings, pointer="/url")
    if "events" in values:
        values["events"] = _ordered(values["events"])
    changed = webhooks.change(session, tenant, webhook_id, **values) if values else row
    if changed is None:
        raise _unknown(webhook_id)
    return _webhook(changed)


@router.delete(
    "/{webhook_id}",
    dependencies=[requires("manage")],
    operation_id="delete_webhook",
    status_code=204,
    responses=problems.responses(problems.NotFoundError),
)
def delete(webhook_id: str, session: Db, tenant: Tenant) -> None:
    """Delete a webhook and its queued deliveries."""
    if not webhooks.delete(session, tenant, webhook_id):
        raise _unknown(webhook_id)


@router.get(
    "/{webhook_id}/deliveries",
    dependencies=[requires("manage")],
    operation_id="list_deliveries",
    responses=problems.responses(problems.NotFoundError),
)
def read_deliveries(
    webhook_id: str, session: Db, tenant: Tenant, limit: paging.Limit = 50, cursor: paging.Cursor = None
) -> Page[WebhookDelivery]:
    """List the deliveries of a webhook, newest first."""
    _found(session, tenant, webhook_id)
    rows = webhooks.deliveries(session, webhook_id, after=paging.keyset(cursor), limit=limit + 1)
    return paging.newest_first(rows, limit, _delivery)


def _ordered(events: Sequence[str]) -> list[str]:
    return [kind for kind in webhooks.EVENTS if kind in events]


def _found(session: Session, tenant: str, webhook_id: str) -> WebhookRow:
    row = webhooks.get(session, tenant, webhook_id)
    if row is None:
        raise _unknown(webhook_id)
    return row


def _unknown(webhook_id: str) -> problems.NotFoundError:
    return problems.NotFoundError(f"no webhook {webhook_id!r}; GET /v1/webhooks lists yours")


def _webhook(row: WebhookRow) -> Webhook:
    return Webhook.model_validate({name: getattr(row, name) for name in Webhook.model_fields})


def _delivery(row: DeliveryRow) -> WebhookDelivery:
    return WebhookDelivery.model_validate({name: getattr(row, name) for name in WebhookDelivery.model_fields})
