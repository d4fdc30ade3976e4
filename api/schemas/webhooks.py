"""Webhooks and their deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from paretofit.api.schemas.base import Request, Response

WebhookEvent = Literal[
    "search.created",
    "search.queued",
    "search.running",
    "search.paused",
    "search.succeeded",
    "search.failed",
    "search.cancelled",
]
DeliveryState = Literal["queued", "running", "delivered", "failed"]
ENDS: list[WebhookEvent] = ["search.succeeded", "search.failed", "search.cancelled"]


class NewWebhook(Request):
    """A new webhook."""

    url: str = Field(max_length=2048, description="https://..., a public address.")
    events: list[WebhookEvent] = Field(default=ENDS, min_length=1, max_length=7)


class WebhookChanges(Request):
    """Changes to a webhook."""

    url: str | None = Field(default=None, max_length=2048)
    events: list[WebhookEvent] | None = Field(default=None, min_length=1, max_length=7)
    enabled: bool | None = None


class Webhook(Response):
    """A webhook, without its secret. A webhook whose receiver answered 410 (gone) is disabled."""

    id: str
    url: str
    events: list[WebhookEvent]
    enabled: bool
    created_at: datetime


class IssuedWebhook(Webhook):
    """A new webhook. `secret` is shown only once: messages are signed with it (Standard Webhooks, v1)."""

    secret: str


class WebhookDelivery(Response):
    """A message to a webhook. `id` is its header `webhook-id`, the same for every attempt."""

    id: str
    type: WebhookEvent
    state: DeliveryState
    attempts: int
    status: int | None = Field(description="HTTP status of the last response.")
    error: dict[str, object] | None
    created_at: datetime
    updated_at: datetime
