"""A POST is executed once per Idempotency-Key."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import Engine, func, select

from paretofit.db import idempotency
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import IdempotencyRow, OutboxRow, SearchRow
from tests.api import rows
from tests.api.keys import KeyedApi
from tests.api.test_problems import pointers, problem


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": new_id("key")}


def searches(engine: Engine, dataset_id: str) -> list[str]:
    with transaction(engine) as session:
        return list(session.scalars(select(SearchRow.id).where(SearchRow.dataset_id == dataset_id)))


def test_repeated_request_gets_the_stored_response(http: httpx.Client, stored: Engine, key: dict[str, str]) -> None:
    dataset_id = rows.ready_dataset(stored)
    body = rows.body(dataset_id)
    first = http.post("/v1/searches", json=body, headers=key)
    rows.set_search(stored, first.json()["id"], state="failed")
    again = http.post("/v1/searches", json=dict(reversed(body.items())), headers=key)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Content-Type"] == first.headers["Content-Type"] == "application/json"
    assert searches(stored, dataset_id) == [first.json()["id"]]


def test_different_body_is_rejected(http: httpx.Client, stored: Engine, key: dict[str, str]) -> None:
    dataset_id = rows.ready_dataset(stored)
    http.post("/v1/searches", json=rows.body(dataset_id), headers=key)
    response = http.post("/v1/searches", json=rows.body(dataset_id, seed=1), headers=key)
    problem(response, 422, "idempotency_mismatch")
    assert len(searches(stored, dataset_id)) == 1


def test_rejected_request_does_not_consume_its_key(http: httpx.Client, stored: Engine, key: dict[str, str]) -> None:
    dataset_id = rows.ready_dataset(stored)
    constraints = [{"metric": "macs", "value": 1}]
    body = rows.body(dataset_id, constraints=constraints)
    problem(http.post("/v1/searches", json=body, headers=key), 422, "infeasible")
    assert http.post("/v1/searches", json=rows.body(dataset_id), headers=key).status_code == 202


def test_keys_are_scoped_to_their_route(http: httpx.Client, stored: Engine, key: dict[str, str]) -> None:
    dataset_id = rows.ready_dataset(stored)
    body = rows.body(dataset_id)
    one, other = (http.post("/v1/searches", json=body).json()["id"] for _ in range(2))
    for search_id in (one, other):
        response = http.post(f"/v1/searches/{search_id}/cancel", headers=key)
        assert (response.status_code, response.json()["id"]) == (202, search_id)
    assert http.post("/v1/searches/estimate", json=body, headers=key).status_code == 200


def test_one_of_fifty_concurrent_requests_is_executed(http: httpx.Client, stored: Engine, key: dict[str, str]) -> None:
    dataset_id = rows.ready_dataset(stored)
    with ThreadPoolExecutor(50) as pool:
        responses = list(
            pool.map(lambda _: http.post("/v1/searches", json=rows.body(dataset_id), headers=key), range(50))
        )
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) <= {202, 409}
    assert len({response.content for response in responses if response.status_code == 202}) == 1
    for response in responses:
        if response.status_code == 409:
            assert problem(response, 409, "idempotency_in_flight")
            assert response.headers["Retry-After"] == "1"
    [search_id] = searches(stored, dataset_id)
    with transaction(stored) as session:
        assert session.scalar(select(func.count()).where(OutboxRow.subject == search_id)) == 1


def test_request_in_flight_is_a_conflict(http: httpx.Client, stored: Engine, key: dict[str, str]) -> None:
    claimed = idempotency.Key("default", "POST /v1/datasets", key["Idempotency-Key"], "any")
    body = {"name": "d", "source": {"kind": "upload"}}
    with transaction(stored) as session:
        assert idempotency.claim(session, claimed) is None
        problem(http.post("/v1/datasets", json=body, headers=key), 409, "idempotency_in_flight")
    assert http.post("/v1/datasets", json=body, headers=key).status_code == 201


@pytest.mark.parametrize("value", ["", "k" * 256])
def test_key_length_is_validated(http: httpx.Client, value: str) -> None:
    body = {"name": "d", "source": {"kind": "upload"}}
    document = problem(http.post("/v1/datasets", json=body, headers={"Idempotency-Key": value}), 422, "invalid")
    assert [pointer.lower() for pointer in pointers(document)] == ["idempotency-key"]


def test_secret_is_returned_only_once(keyed: KeyedApi, key: dict[str, str]) -> None:
    body = {"name": key["Idempotency-Key"], "scopes": ["read"]}
    created = keyed.send("POST", "/v1/api-keys", json=body, headers=key)
    assert created.status_code == 201
    again = keyed.send("POST", "/v1/api-keys", json=body, headers=key)
    assert problem(again, 409, "shown_once")["location"] == created.headers["Location"]
    assert created.json()["key"] not in again.text
    problem(keyed.send("POST", "/v1/api-keys", json={**body, "name": "k"}, headers=key), 422, "idempotency_mismatch")
    listed = keyed.send("GET", "/v1/api-keys", params={"limit": 200}).json()["data"]
    assert [each["id"] for each in listed if each["name"] == body["name"]] == [created.json()["id"]]

    rotated, twice = (keyed.send("POST", f"{created.headers['Location']}/rotate", headers=key) for _ in range(2))
    assert rotated.status_code == 201
    assert problem(twice, 409, "shown_once")["location"] == rotated.headers["Location"]
    with transaction(keyed.engine) as session:
        bodies = session.scalars(select(IdempotencyRow.body).where(IdempotencyRow.key == key["Idempotency-Key"])).all()
    assert bodies == [b"", b""]


def test_retry_without_the_scope_is_forbidden(keyed: KeyedApi, key: dict[str, str]) -> None:
    body = {"name": "k", "scopes": ["read", "write"]}
    assert keyed.send("POST", "/v1/api-keys", json=body, headers=key).status_code == 201
    weaker = keyed.issue("read", "manage")
    problem(keyed.send("POST", "/v1/api-keys", weaker, json=body, headers=key), 403, "forbidden")


def test_unused_body_is_ignored(http: httpx.Client, stored: Engine, key: dict[str, str]) -> None:
    search_id = http.post("/v1/searches", json=rows.body(rows.ready_dataset(stored))).json()["id"]
    path = f"/v1/searches/{search_id}/pause"
    for content in (b"[" * 100_000, b"\xff", b"1" * 10_000):
        response = http.post(path, content=content, headers={"Idempotency-Key": new_id("key")})
        assert response.status_code == 202, response.text
