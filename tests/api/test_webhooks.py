"""Webhooks as a resource; tests/workers/test_webhook_jobs.py tests their deliveries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import Engine, select

from paretofit.api.v1.webhooks import MAX_WEBHOOKS
from paretofit.db.engine import transaction
from paretofit.db.tables import DeliveryRow, WebhookRow
from tests.api import rows
from tests.api.test_problems import pointers, problem


def test_webhook_is_created_changed_and_deleted(http: httpx.Client, stored: Engine) -> None:
    response = http.post("/v1/webhooks", json={"url": "https://hooks.example/a"})
    assert response.status_code == 201
    created = response.json()
    assert created["secret"].startswith("whsec_")
    assert created["events"] == ["search.succeeded", "search.failed", "search.cancelled"]
    shown = http.get(response.headers["Location"]).json()
    assert shown == {name: value for name, value in created.items() if name != "secret"}
    assert created["secret"] not in http.get("/v1/webhooks").text
    changed = http.patch(f"/v1/webhooks/{created['id']}", json={"enabled": False, "events": ["search.running"]}).json()
    assert (changed["enabled"], changed["events"], changed["url"]) == (False, ["search.running"], created["url"])
    with transaction(stored) as session:
        assert session.get_one(WebhookRow, created["id"]).secret == created["secret"]
    assert http.delete(f"/v1/webhooks/{created['id']}").status_code == 204
    problem(http.delete(f"/v1/webhooks/{created['id']}"), 404, "not_found")
    problem(http.patch(f"/v1/webhooks/{created['id']}", json={"enabled": True}), 404, "not_found")


def test_idempotency_key_creates_one_webhook(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "hook-once"}
    first, second = (http.post("/v1/webhooks", json={"url": "https://b.example/"}, headers=headers) for _ in range(2))
    location = f"/v1/webhooks/{first.json()['id']}"
    assert first.headers["Location"] == problem(second, 409, "shown_once")["location"] == location
    listed = http.get("/v1/webhooks", params={"limit": 200}).json()["data"]
    assert len([each for each in listed if each["url"] == "https://b.example/"]) == 1


def test_webhooks_per_tenant_are_limited(http: httpx.Client) -> None:
    body = {"name": "k", "scopes": ["manage"], "tenant": "hooks"}
    headers = {"Authorization": f"Bearer {http.post('/v1/api-keys', json=body).json()['key']}"}

    def create(number: int) -> int:
        return http.post("/v1/webhooks", json={"url": f"https://a.example/{number}"}, headers=headers).status_code

    for number in range(MAX_WEBHOOKS - 2):
        assert create(number) == 201
    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(create, range(16))) == [201] * 2 + [429] * 14
    refused = http.post("/v1/webhooks", json={"url": "https://a.example/"}, headers=headers)
    problem(refused, 429, "quota_exceeded")


def test_events_are_queued_for_subscribed_webhooks(http: httpx.Client, stored: Engine) -> None:
    active = http.post("/v1/webhooks", json={"url": "https://c.example/", "events": ["search.created"]}).json()["id"]
    disabled = http.post("/v1/webhooks", json={"url": "https://d.example/", "events": ["search.created"]}).json()["id"]
    http.patch(f"/v1/webhooks/{disabled}", json={"enabled": False})
    search = http.post("/v1/searches", json=rows.body(rows.ready_dataset(stored))).json()["id"]
    http.post(f"/v1/searches/{search}/cancel")
    [delivery] = http.get(f"/v1/webhooks/{active}/deliveries").json()["data"]
    assert (delivery["type"], delivery["state"], delivery["attempts"]) == ("search.created", "queued", 0)
    assert http.get(f"/v1/webhooks/{disabled}/deliveries").json()["data"] == []
    assert http.delete(f"/v1/webhooks/{active}").status_code == 204
    with transaction(stored) as session:
        assert session.scalars(select(DeliveryRow).where(DeliveryRow.webhook_id == active)).all() == []


@pytest.mark.parametrize(
    "url",
    ["http://a.example/", "https://127.0.0.1/", "https://2130706433/", "https://[::1]/", "https://u:p@a.example/", "x"],
)
def test_forbidden_url_is_rejected(http: httpx.Client, url: str) -> None:
    assert pointers(problem(http.post("/v1/webhooks", json={"url": url}), 422, "invalid")) == ["/url"]
    body = {"name": "d", "source": {"kind": "url", "url": url}}
    assert pointers(problem(http.post("/v1/datasets", json=body), 422, "invalid")) == ["/source/url"]
    webhook_id = http.post("/v1/webhooks", json={"url": "https://e.example/"}).json()["id"]
    assert pointers(problem(http.patch(f"/v1/webhooks/{webhook_id}", json={"url": url}), 422, "invalid")) == ["/url"]


def test_dataset_from_a_url_waits_for_a_worker(http: httpx.Client) -> None:
    source = {"kind": "url", "url": "https://a.example/images.zip", "sha256": "0" * 64}
    response = http.post("/v1/datasets", json={"name": "d", "source": source})
    assert response.status_code == 201
    dataset = response.json()
    assert (dataset["state"], dataset["source"]) == ("pending", source)
    problem(http.put(f"/v1/datasets/{dataset['id']}/content", content=b"x"), 409, "not_uploadable")
