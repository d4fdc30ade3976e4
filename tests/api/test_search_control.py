"""Search control over HTTP: searches are paused, resumed, changed and cloned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from paretofit.api.schemas.searches import SearchDetail
from paretofit.db.ids import new_id
from tests.api import rows
from tests.api.test_problems import pointers, problem


@pytest.fixture
def dataset(stored: Engine) -> str:
    return rows.ready_dataset(stored)


@pytest.fixture
def search_id(stored: Engine, dataset: str) -> str:
    return rows.search(stored, dataset, limits={"max_trials": 5, "max_epochs": 3}, labels={"team": "blue"})


def control(http: httpx.Client, search_id: str, action: str, **options: Any) -> SearchDetail:
    response = http.post(f"/v1/searches/{search_id}/{action}", **options)
    assert response.status_code == 202, response.text
    return SearchDetail.model_validate_json(response.content)


def change(http: httpx.Client, search_id: str, **changes: Any) -> SearchDetail:
    response = http.patch(f"/v1/searches/{search_id}", json=changes)
    assert response.status_code == 200, response.text
    assert http.get(f"/v1/searches/{search_id}").json() | {"usage": None} == response.json() | {"usage": None}
    return SearchDetail.model_validate_json(response.content)


def event_types(http: httpx.Client, search_id: str) -> list[str]:
    return [event["type"] for event in http.get(f"/v1/searches/{search_id}/events").json()["data"]]


def test_pause_and_resume_are_idempotent(http: httpx.Client, search_id: str) -> None:
    for _ in range(2):
        paused = control(http, search_id, "pause")
        assert (paused.state, paused.pause_requested) == ("paused", True)
    for _ in range(2):
        resumed = control(http, search_id, "resume")
        assert (resumed.state, resumed.pause_requested) == ("queued", False)
    assert event_types(http, search_id) == [
        "search.created",
        "search.pause_requested",
        "search.paused",
        "search.resumed",
        "search.queued",
    ]


def test_running_search_is_paused_later(http: httpx.Client, stored: Engine, search_id: str) -> None:
    now = datetime.now(UTC)
    rows.trial(stored, search_id, state="running", lease_epoch=1, lease_expires_at=now + timedelta(hours=1))
    rows.set_search(stored, search_id, state="running", started_at=now)
    paused = control(http, search_id, "pause")
    assert (paused.state, paused.pause_requested) == ("running", True)


def test_idempotency_key_pauses_once(http: httpx.Client, search_id: str) -> None:
    key = {"Idempotency-Key": new_id("key")}
    first = control(http, search_id, "pause", headers=key)
    control(http, search_id, "resume", headers=key)
    assert control(http, search_id, "pause", headers=key) == first
    assert http.get(f"/v1/searches/{search_id}").json()["state"] == "queued"


@pytest.mark.parametrize("action", ["pause", "resume"])
@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_finished_search_cannot_be_paused_or_resumed(
    http: httpx.Client, stored: Engine, search_id: str, action: str, state: str
) -> None:
    rows.set_search(stored, search_id, state=state)
    document = problem(http.post(f"/v1/searches/{search_id}/{action}"), 409, "search_finished")
    assert document["state"] == state
    assert "clone" in document["detail"]


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_search_being_cancelled_cannot_be_paused_or_resumed(
    http: httpx.Client, stored: Engine, search_id: str, action: str
) -> None:
    rows.set_search(stored, search_id, state="running", cancel_requested=True)
    document = problem(http.post(f"/v1/searches/{search_id}/{action}"), 409, "search_finished")
    assert document["state"] == "running"
    assert "being cancelled" in document["detail"]


def test_paused_search_can_be_cancelled(http: httpx.Client, search_id: str) -> None:
    control(http, search_id, "pause")
    assert control(http, search_id, "cancel").state == "cancelled"
    assert event_types(http, search_id)[-1] == "search.cancelled"


def test_paused_time_is_not_counted(http: httpx.Client, stored: Engine, search_id: str) -> None:
    rows.set_search(
        stored,
        search_id,
        state="running",
        started_at=datetime.now(UTC) - timedelta(seconds=1000),
        paused_seconds=900,
    )
    usage = SearchDetail.model_validate_json(http.get(f"/v1/searches/{search_id}").content).usage
    assert usage.wall_seconds == pytest.approx(100, abs=20)


def test_changes_keep_all_other_fields(http: httpx.Client, search_id: str) -> None:
    limits = {"max_trials": 5, "max_parallel_trials": None, "max_wall_seconds": None, "max_device_seconds": None}
    assert change(http, search_id).limits == {**limits, "max_epochs": 3}
    assert change(http, search_id, name="other").name == "other"
    changed = change(http, search_id, labels={"team": None, "purpose": "test"}, priority=9)
    assert (changed.labels, changed.priority) == ({"purpose": "test"}, 9)
    changed = change(http, search_id, limits={"max_trials": None, "max_wall_seconds": 60})
    assert changed.limits == {**limits, "max_trials": None, "max_wall_seconds": 60, "max_epochs": 3}
    assert changed.spec["limits"]["max_trials"] == 5
    assert (changed.name, changed.labels, changed.priority) == ("other", {"purpose": "test"}, 9)
    assert event_types(http, search_id) == ["search.created", "search.changed", "search.changed"]


def test_invalid_changes_are_rejected_as_a_whole(http: httpx.Client, stored: Engine, search_id: str) -> None:
    before = http.get(f"/v1/searches/{search_id}").json()
    invalid: dict[str, dict[str, Any]] = {
        "/name": {"name": ""},
        "/priority": {"priority": 10},
        "/limits/max_trials": {"limits": {"max_trials": 0}, "name": "other"},
        "/seed": {"seed": 1},
        "/labels": {"labels": {str(index): "" for index in range(32)}, "name": "other"},
    }
    for pointer, changes in invalid.items():
        response = http.patch(f"/v1/searches/{search_id}", json=changes)
        assert pointers(problem(response, 422, "invalid")) == [pointer]
    # No point can be found within this limit. Once the search has started, the limit only ends it.
    low = http.patch(f"/v1/searches/{search_id}", json={"limits": {"max_trials": 1}})
    assert pointers(problem(low, 422, "invalid")) == ["/limits/max_trials"]
    assert http.get(f"/v1/searches/{search_id}").json() == before
    rows.set_search(stored, search_id, state="running", started_at=datetime.now(UTC))
    assert change(http, search_id, limits={"max_trials": 1}).limits["max_trials"] == 1


def test_finished_search_keeps_its_limits(http: httpx.Client, stored: Engine, search_id: str) -> None:
    rows.set_search(stored, search_id, state="failed")
    for changes in ({"limits": {"max_trials": 9}}, {"priority": 1}):
        response = http.patch(f"/v1/searches/{search_id}", json={"name": "other", **changes})
        assert problem(response, 409, "search_finished")["state"] == "failed"
    assert change(http, search_id, name="best so far", labels={"team": "red"}).labels == {"team": "red"}
    assert event_types(http, search_id) == ["search.created"]


def test_epochs_are_fixed_once_training_has_started(http: httpx.Client, stored: Engine, search_id: str) -> None:
    assert change(http, search_id, limits={"max_epochs": 4}).limits["max_epochs"] == 4
    rows.set_search(stored, search_id, state="running", started_at=datetime.now(UTC))
    problem(http.patch(f"/v1/searches/{search_id}", json={"limits": {"max_epochs": 5}}), 409, "search_started")
    assert change(http, search_id, limits={"max_epochs": 4, "max_trials": 2}).limits["max_trials"] == 2


def test_clone_repeats_the_search(http: httpx.Client, stored: Engine, dataset: str, search_id: str) -> None:
    change(http, search_id, name="renamed", labels={"team": "red"}, limits={"max_trials": 7}, priority=2)
    rows.set_search(stored, search_id, state="failed")
    clone = control(http, search_id, "clone")
    source = SearchDetail.model_validate_json(http.get(f"/v1/searches/{search_id}").content)
    assert clone.id != search_id
    assert (clone.state, clone.name, clone.labels, clone.priority) == ("queued", "renamed", {"team": "red"}, 2)
    assert clone.limits == source.limits
    same = {"method", "dataset_id", "objectives", "constraints", "seed", "dataset", "task"}
    assert {name: clone.spec[name] for name in same} == {name: source.spec[name] for name in same}
    assert clone.provenance["cloned_from"] == search_id
    assert clone.provenance["candidates"]["configurations"] == 8
    changed = control(
        http, search_id, "clone", json={"name": "b", "seed": 5, "limits": {"max_epochs": None}, "labels": {"x": "y"}}
    )
    assert (changed.name, changed.spec["seed"], changed.labels) == ("b", 5, {"team": "red", "x": "y"})
    assert changed.limits == {**source.limits, "max_epochs": None}
    assert changed.spec["limits"] == changed.limits


def test_idempotency_key_creates_one_clone(http: httpx.Client, search_id: str) -> None:
    key = {"Idempotency-Key": new_id("key")}
    first = http.post(f"/v1/searches/{search_id}/clone", headers=key)
    assert first.headers["Location"] == f"/v1/searches/{first.json()['id']}"
    assert http.post(f"/v1/searches/{search_id}/clone", headers=key).content == first.content
    other = http.post(f"/v1/searches/{search_id}/clone", headers=key, json={"seed": 3})
    problem(other, 422, "idempotency_mismatch")


def test_search_by_an_unknown_method_cannot_be_cloned(http: httpx.Client, stored: Engine, search_id: str) -> None:
    spec = http.get(f"/v1/searches/{search_id}").json()["spec"]
    rows.set_search(stored, search_id, spec=spec | {"method": {"kind": "removed"}})
    assert "removed" in problem(http.post(f"/v1/searches/{search_id}/clone"), 422, "invalid")["detail"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/pause"), ("POST", "/resume"), ("POST", "/clone"), ("PATCH", "")]
)
def test_unknown_search_is_not_found(http: httpx.Client, method: str, path: str) -> None:
    problem(http.request(method, f"/v1/searches/srch_none{path}", json={}), 404, "not_found")
