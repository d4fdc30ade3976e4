"""Webhooks through the light queue: messages, signatures and retries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import func, select, update

from paretofit.core.signatures import new_secret
from paretofit.db import cancellation, outbox, webhooks
from paretofit.db.engine import transaction
from paretofit.db.tables import DeliveryRow, WebhookRow
from tests.db import rows
from tests.workers.fleet import Fleet


@dataclass
class Receiver:
    """A server that responds with these statuses in turn; the last one repeats."""

    statuses: list[int]
    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        yield receiver
        server.shutdown()
        thread.join()


@pytest.fixture
def webhook_fleet(empty_fleet: Fleet) -> Fleet:
    """A relay and a light worker that may connect to loopback."""
    empty_fleet.environment["PARETOFIT_OUTBOUND_NETWORKS"] = "127.0.0.0/8"
    empty_fleet.start("paretofit.workers.relay")
    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    return empty_fleet


def add_webhook(fleet: Fleet, url: str, *, tenant: str = "default") -> WebhookRow:
    with transaction(fleet.engine) as session:
        return webhooks.insert(
            session, tenant, url=url, events=["search.cancelled", "search.succeeded"], secret=new_secret()
        )


def cancel_search(fleet: Fleet) -> str:
    """Submit a search and cancel it. Returns its id."""
    search = rows.add_search(fleet.engine, method={"kind": "steps"})
    with transaction(fleet.engine) as session:
        cancellation.request_cancel(session, search)
    return search


def delivery(fleet: Fleet, webhook: WebhookRow) -> DeliveryRow:
    with transaction(fleet.engine) as session:
        return session.scalars(select(DeliveryRow).where(DeliveryRow.webhook_id == webhook.id)).one()


def await_state(fleet: Fleet, webhook: WebhookRow, state: str, *, attempts: int) -> DeliveryRow:
    def reached() -> DeliveryRow | None:
        row = delivery(fleet, webhook)
        return row if (row.state, row.attempts) == (state, attempts) else None

    return fleet.wait(reached, f"delivery {state} after {attempts} attempts")


def verified(secret: str, headers: dict[str, str], body: bytes) -> dict[str, object]:
    """Verify the signature of a message (Standard Webhooks, symmetric). Returns the message."""
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    document: dict[str, object] = json.loads(body)
    return document


def test_delivery_is_signed_and_retried(webhook_fleet: Fleet) -> None:
    with receiving(500, 204) as receiver, receiving(200) as other, receiving(200) as elsewhere:
        retried, twin = add_webhook(webhook_fleet, receiver.url), add_webhook(webhook_fleet, other.url)
        add_webhook(webhook_fleet, elsewhere.url, tenant="acme")
        search = cancel_search(webhook_fleet)
        failed = await_state(webhook_fleet, retried, "queued", attempts=1)
        assert failed.error == {"code": "refused", "detail": "the receiver responded with 500"}
        assert failed.run_after > failed.updated_at
        with transaction(webhook_fleet.engine) as session:
            session.execute(
                update(DeliveryRow).where(DeliveryRow.id == failed.id).values(run_after=func.clock_timestamp())
            )
            outbox.enqueue(session, outbox.DELIVER, failed.id)
        row = await_state(webhook_fleet, retried, "delivered", attempts=2)
        assert (row.status, row.error) == (204, None)
        await_state(webhook_fleet, twin, "delivered", attempts=1)
        (first, body), (second, again) = receiver.requests
        assert first["webhook-id"] == second["webhook-id"] == row.id
        assert body == again
        message = verified(retried.secret, first, body)
        assert message["type"] == "search.cancelled"
        assert message["data"] == {"search_id": search, "seq": 2, "points": 0, "warnings": []}
        assert verified(retried.secret, second, again) == message
        with pytest.raises(AssertionError):
            verified(twin.secret, first, body)
        assert elsewhere.requests == []


def test_webhook_is_disabled_after_410_gone(webhook_fleet: Fleet) -> None:
    with receiving(410) as receiver:
        webhook = add_webhook(webhook_fleet, receiver.url)
        cancel_search(webhook_fleet)
        row = await_state(webhook_fleet, webhook, "failed", attempts=1)
        assert (row.status, (row.error or {})["code"]) == (410, "gone")
        with transaction(webhook_fleet.engine) as session:
            assert not session.get_one(WebhookRow, webhook.id).enabled
        cancel_search(webhook_fleet)
        assert len(receiver.requests) == 1


def test_forbidden_receivers_fail_and_unreachable_ones_are_retried(webhook_fleet: Fleet) -> None:
    with receiving(200) as receiver:
        closed = receiver.url
    private = ("https://10.0.0.1/x", "http://192.168.0.1/x", "https://[fd00::1]/", "https://169.254.169.254/")
    refused = [add_webhook(webhook_fleet, url) for url in private]
    unanswered = add_webhook(webhook_fleet, closed)
    cancel_search(webhook_fleet)
    for webhook in refused:
        row = await_state(webhook_fleet, webhook, "failed", attempts=1)
        assert (row.error or {})["code"] == "address"
    row = await_state(webhook_fleet, unanswered, "queued", attempts=1)
    assert (row.error or {})["code"] == "unreachable"
