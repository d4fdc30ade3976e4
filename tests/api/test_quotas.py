"""Quotas are enforced in the transaction of each request, also with concurrent requests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import func, select, update

from paretofit.db.engine import transaction
from paretofit.db.tables import ArtifactRow, AttemptRow, PointRow, SearchRow, TrialRow
from tests.api import rows
from tests.api.keys import KeyedApi
from tests.api.test_exports import RECORD
from tests.api.test_problems import problem

QUOTA = 5


def _tenant(service: KeyedApi, name: str, **quota: float) -> str:
    """Create a tenant with these quotas. Returns a key of the tenant."""
    assert service.send("PUT", f"/v1/tenants/{name}", json=quota).status_code == 200
    return service.issue("read", "write", tenant=name)


def test_concurrent_submissions_stop_at_the_quota(keyed: KeyedApi) -> None:
    key = _tenant(keyed, "crowd", max_searches=QUOTA)
    dataset = rows.ready_dataset(keyed.engine, tenant_id="crowd")

    def submit(number: int) -> httpx.Response:
        return keyed.send("POST", "/v1/searches", key, json=rows.body(dataset, name=f"s{number}"))

    with ThreadPoolExecutor(100) as pool:
        responses = list(pool.map(submit, range(100)))
    accepted = [response.json() for response in responses if response.status_code == 202]
    assert len(accepted) == QUOTA
    for response in responses:
        if response.status_code != 202:
            refused = problem(response, 429, "quota_exceeded")
            assert (refused["quota"], refused["limit"]) == ("max_searches", QUOTA)
            assert int(response.headers["Retry-After"]) > 0
    with transaction(keyed.engine) as session:
        stored = session.scalar(select(func.count()).where(SearchRow.tenant_id == "crowd"))
    assert stored == QUOTA
    usage = keyed.send("GET", "/v1/usage", key).json()
    assert (usage["searches"], usage["max_searches"]) == (QUOTA, QUOTA)
    clone = f"/v1/searches/{accepted[0]['id']}/clone"
    problem(keyed.send("POST", clone, key), 429, "quota_exceeded")
    # A finished search makes room for another one.
    assert keyed.send("POST", f"/v1/searches/{accepted[0]['id']}/cancel", key).status_code == 202
    assert keyed.send("POST", clone, key).status_code == 202
    problem(keyed.send("POST", clone, key), 429, "quota_exceeded")


def test_quota_ignores_other_tenants(keyed: KeyedApi) -> None:
    key = _tenant(keyed, "alone", max_searches=1)
    rows.search(keyed.engine, rows.ready_dataset(keyed.engine))
    body = rows.body(rows.ready_dataset(keyed.engine, tenant_id="alone"))
    assert keyed.send("POST", "/v1/searches", key, json=body).status_code == 202
    problem(keyed.send("POST", "/v1/searches", key, json=body), 429, "quota_exceeded")


def test_device_time_quota_covers_thirty_days(keyed: KeyedApi) -> None:
    key = _tenant(keyed, "busy", max_device_seconds=100)
    dataset = rows.ready_dataset(keyed.engine, tenant_id="busy")
    body = rows.body(dataset)
    search = keyed.send("POST", "/v1/searches", key, json=body).json()["id"]
    trial = rows.trial(keyed.engine, search, tenant_id="busy")
    now = datetime.now(UTC)

    def attempt(epoch: int, began: timedelta, seconds: float) -> None:
        row = AttemptRow(trial_id=trial, epoch=epoch, worker="w", tenant_id="busy", computing_at=now - began)
        row.ended_at = now - began + timedelta(seconds=seconds)
        with transaction(keyed.engine) as session:
            session.add(row)

    attempt(1, timedelta(days=31), 3600)
    attempt(2, timedelta(hours=1), 99)
    assert keyed.send("POST", "/v1/searches", key, json=body).status_code == 202
    attempt(3, timedelta(hours=2), 2)
    assert keyed.send("GET", "/v1/usage", key).json()["device_seconds"] == pytest.approx(101)
    refused = problem(keyed.send("POST", "/v1/searches", key, json=body), 429, "quota_exceeded")
    assert refused["quota"] == "max_device_seconds"
    # Device time still counts after its search is deleted.
    rows.set_search(keyed.engine, search, state="cancelled")
    assert keyed.send("DELETE", f"/v1/searches/{search}", key).status_code == 204
    assert keyed.send("GET", "/v1/usage", key).json()["device_seconds"] == pytest.approx(101)
    problem(keyed.send("POST", "/v1/searches", key, json=body), 429, "quota_exceeded")


def test_uploads_count_toward_stored_bytes(keyed: KeyedApi) -> None:
    key = _tenant(keyed, "full", max_stored_bytes=1500)
    body = {"name": "d", "source": {"kind": "upload"}}

    def upload(size: int) -> httpx.Response:
        created = keyed.send("POST", "/v1/datasets", key, json=body)
        if created.status_code != 201:
            return created
        return keyed.send("PUT", f"/v1/datasets/{created.json()['id']}/content", key, content=b"x" * size)

    assert upload(1000).status_code == 200
    problem(upload(600), 429, "quota_exceeded")
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(response.status_code for response in pool.map(upload, [500] * 8))
    assert statuses == [200] + [429] * 7
    assert keyed.send("GET", "/v1/usage", key).json()["stored_bytes"] == 1500
    problem(keyed.send("POST", "/v1/datasets", key, json=body), 429, "quota_exceeded")
    # A search would also store files.
    search = rows.body(rows.ready_dataset(keyed.engine, tenant_id="full"))
    refused = problem(keyed.send("POST", "/v1/searches", key, json=search), 429, "quota_exceeded")
    assert refused["quota"] == "max_stored_bytes"


def test_unfinished_uploads_count_toward_stored_bytes(keyed: KeyedApi) -> None:
    key = _tenant(keyed, "parts", max_stored_bytes=1500)
    body = {"name": "d", "source": {"kind": "upload"}}
    datasets = [keyed.send("POST", "/v1/datasets", key, json=body).json()["id"] for _ in range(4)]

    def begin(dataset: str) -> httpx.Response:
        part = {"Content-Range": "bytes 0-999/*"}
        return keyed.send("PUT", f"/v1/datasets/{dataset}/content", key, content=b"x" * 1000, headers=part)

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(response.status_code for response in pool.map(begin, datasets))
    assert statuses == [200, 429, 429, 429]
    assert keyed.send("GET", "/v1/usage", key).json()["stored_bytes"] == 1000


def test_exports_count_toward_stored_bytes(keyed: KeyedApi) -> None:
    search = rows.search(keyed.engine, rows.ready_dataset(keyed.engine, tenant_id="exporting"))
    trial = rows.trial(keyed.engine, search)
    weights = rows.artifact(keyed.engine, search, trial, name="p", sha256="b" * 64, size=1000)
    point = rows.point(keyed.engine, search, trial, "p", artifact_id=weights, macs=1.0)
    with transaction(keyed.engine) as session:
        for table, row in ((SearchRow, search), (TrialRow, trial), (ArtifactRow, weights), (PointRow, point)):
            session.execute(update(table).where(table.id == row).values(tenant_id="exporting"))
        session.execute(update(PointRow).where(PointRow.id == point).values(record=RECORD))
    path, body = f"/v1/points/{point}/exports", {"format": "safetensors"}
    key = _tenant(keyed, "exporting", max_stored_bytes=1000)
    refused = problem(keyed.send("POST", path, key, json=body), 429, "quota_exceeded")
    assert refused["quota"] == "max_stored_bytes"
    assert keyed.send("GET", path, key).json()["data"] == []
    _tenant(keyed, "exporting", max_stored_bytes=1001)
    assert keyed.send("POST", path, key, json=body).status_code == 202


def test_upload_of_unknown_length_is_counted_on_arrival(keyed: KeyedApi) -> None:
    key = _tenant(keyed, "quiet", max_stored_bytes=1500)
    dataset = keyed.send("POST", "/v1/datasets", key, json={"name": "d", "source": {"kind": "upload"}}).json()

    def stream() -> Iterator[bytes]:
        yield b"x" * 2000

    problem(keyed.send("PUT", f"/v1/datasets/{dataset['id']}/content", key, content=stream()), 429, "quota_exceeded")
    blobs = keyed.api.home / "blobs"
    assert [path for path in blobs.rglob("*") if path.is_file() and path.stat().st_size == 2000] == []
    unchanged = keyed.send("GET", f"/v1/datasets/{dataset['id']}", key).json()
    assert (unchanged["state"], unchanged["uploaded_bytes"]) == ("pending", 0)
    assert keyed.send("PUT", f"/v1/datasets/{dataset['id']}/content", key, content=b"x" * 1500).status_code == 200


def test_quotas_of_tenants_are_set_and_listed(keyed: KeyedApi) -> None:
    for name in ("zebra-1", "zebra-2"):
        _tenant(keyed, name, max_searches=3)
    first = keyed.send("GET", "/v1/tenants?limit=1&cursor=zebra-").json()
    assert [tenant["id"] for tenant in first["data"]] == ["zebra-1"]
    second = keyed.send("GET", f"/v1/tenants?cursor={first['next_cursor']}").json()
    assert [tenant["id"] for tenant in second["data"]] == ["zebra-2"]
    assert keyed.send("PUT", "/v1/tenants/zebra-1", json={}).json()["max_searches"] is None
    assert keyed.send("PUT", "/v1/tenants/zebra-1", json={"max_searches": -1}).status_code == 422
