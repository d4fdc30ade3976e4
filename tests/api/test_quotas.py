"""Quotas are kept by the transaction of what they could refuse, however many ask at once."""

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
from tests.api.keys import Locked
from tests.api.test_exports import RECORD
from tests.api.test_problems import problem

QUOTA = 5


def _tenant(service: Locked, name: str, **quota: float) -> str:
    """A key of a tenant with quotas of its own."""
    assert service.send("PUT", f"/v1/tenants/{name}", json=quota).status_code == 200
    return service.issue("read", "write", tenant=name)


def test_a_hundred_at_once_leave_exactly_as_many_as_allowed(keyed: Locked) -> None:
    key = _tenant(keyed, "crowd", max_searches=QUOTA)
    dataset = rows.ready_dataset(keyed.engine, tenant_id="crowd")

    def submit(number: int) -> httpx.Response:
        return keyed.send("POST", "/v1/searches", key, json=rows.body(dataset, name=f"s{number}"))

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(submit, range(100)))
    accepted = [answer.json() for answer in answers if answer.status_code == 202]
    assert len(accepted) == QUOTA
    for answer in answers:
        if answer.status_code != 202:
            refused = problem(answer, 429, "quota_exceeded")
            assert (refused["quota"], refused["limit"]) == ("max_searches", QUOTA)
            assert int(answer.headers["Retry-After"]) > 0
    with transaction(keyed.engine) as session:
        stored = session.scalar(select(func.count()).where(SearchRow.tenant_id == "crowd"))
    assert stored == QUOTA
    usage = keyed.send("GET", "/v1/usage", key).json()
    assert (usage["searches"], usage["max_searches"]) == (QUOTA, QUOTA)
    clone = f"/v1/searches/{accepted[0]['id']}/clone"
    problem(keyed.send("POST", clone, key), 429, "quota_exceeded")
    # One that is over makes room for one.
    assert keyed.send("POST", f"/v1/searches/{accepted[0]['id']}/cancel", key).status_code == 202
    assert keyed.send("POST", clone, key).status_code == 202
    problem(keyed.send("POST", clone, key), 429, "quota_exceeded")


def test_other_tenants_do_not_count(keyed: Locked) -> None:
    key = _tenant(keyed, "alone", max_searches=1)
    rows.search(keyed.engine, rows.ready_dataset(keyed.engine))
    body = rows.body(rows.ready_dataset(keyed.engine, tenant_id="alone"))
    assert keyed.send("POST", "/v1/searches", key, json=body).status_code == 202
    problem(keyed.send("POST", "/v1/searches", key, json=body), 429, "quota_exceeded")


def test_device_time_of_thirty_days(keyed: Locked) -> None:
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
    # What was spent stays spent when its search is deleted.
    rows.set_search(keyed.engine, search, state="cancelled")
    assert keyed.send("DELETE", f"/v1/searches/{search}", key).status_code == 204
    assert keyed.send("GET", "/v1/usage", key).json()["device_seconds"] == pytest.approx(101)
    problem(keyed.send("POST", "/v1/searches", key, json=body), 429, "quota_exceeded")


def test_bytes_of_uploads(keyed: Locked) -> None:
    key = _tenant(keyed, "full", max_stored_bytes=1500)
    body = {"name": "d", "source": {"kind": "upload"}}

    def upload(size: int) -> httpx.Response:
        made = keyed.send("POST", "/v1/datasets", key, json=body)
        if made.status_code != 201:
            return made
        return keyed.send("PUT", f"/v1/datasets/{made.json()['id']}/content", key, content=b"x" * size)

    assert upload(1000).status_code == 200
    problem(upload(600), 429, "quota_exceeded")
    with ThreadPoolExecutor(8) as pool:
        sent = sorted(answer.status_code for answer in pool.map(upload, [500] * 8))
    assert sent == [200] + [429] * 7
    assert keyed.send("GET", "/v1/usage", key).json()["stored_bytes"] == 1500
    problem(keyed.send("POST", "/v1/datasets", key, json=body), 429, "quota_exceeded")
    # A search would make files, too.
    search = rows.body(rows.ready_dataset(keyed.engine, tenant_id="full"))
    refused = problem(keyed.send("POST", "/v1/searches", key, json=search), 429, "quota_exceeded")
    assert refused["quota"] == "max_stored_bytes"


def test_bytes_of_unfinished_uploads(keyed: Locked) -> None:
    key = _tenant(keyed, "parts", max_stored_bytes=1500)
    body = {"name": "d", "source": {"kind": "upload"}}
    made = [keyed.send("POST", "/v1/datasets", key, json=body).json()["id"] for _ in range(4)]

    def begin(dataset: str) -> httpx.Response:
        part = {"Content-Range": "bytes 0-999/*"}
        return keyed.send("PUT", f"/v1/datasets/{dataset}/content", key, content=b"x" * 1000, headers=part)

    with ThreadPoolExecutor(4) as pool:
        sent = sorted(answer.status_code for answer in pool.map(begin, made))
    assert sent == [200, 429, 429, 429]
    assert keyed.send("GET", "/v1/usage", key).json()["stored_bytes"] == 1000


def test_bytes_of_exports(keyed: Locked) -> None:
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


def test_bytes_that_are_not_announced_are_counted_when_they_are_there(keyed: Locked) -> None:
    key = _tenant(keyed, "quiet", max_stored_bytes=1500)
    made = keyed.send("POST", "/v1/datasets", key, json={"name": "d", "source": {"kind": "upload"}}).json()

    def stream() -> Iterator[bytes]:
        yield b"x" * 2000

    problem(keyed.send("PUT", f"/v1/datasets/{made['id']}/content", key, content=stream()), 429, "quota_exceeded")
    blobs = keyed.api.home / "blobs"
    assert [path for path in blobs.rglob("*") if path.is_file() and path.stat().st_size == 2000] == []
    again = keyed.send("GET", f"/v1/datasets/{made['id']}", key).json()
    assert (again["state"], again["uploaded_bytes"]) == ("pending", 0)
    assert keyed.send("PUT", f"/v1/datasets/{made['id']}/content", key, content=b"x" * 1500).status_code == 200


def test_quotas_of_tenants_are_set_and_listed(keyed: Locked) -> None:
    for name in ("zebra-1", "zebra-2"):
        _tenant(keyed, name, max_searches=3)
    first = keyed.send("GET", "/v1/tenants?limit=1&cursor=zebra-").json()
    assert [tenant["id"] for tenant in first["data"]] == ["zebra-1"]
    second = keyed.send("GET", f"/v1/tenants?cursor={first['next_cursor']}").json()
    assert [tenant["id"] for tenant in second["data"]] == ["zebra-2"]
    assert keyed.send("PUT", "/v1/tenants/zebra-1", json={}).json()["max_searches"] is None
    assert keyed.send("PUT", "/v1/tenants/zebra-1", json={"max_searches": -1}).status_code == 422
