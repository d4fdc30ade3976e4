"""Searches over HTTP: submitted, estimated, listed, cancelled, deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, func, select

from paretofit.api.schemas.searches import SearchDetail
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import AttemptRow, OutboxRow, SearchRow
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import SearchSpec
from tests.api import rows
from tests.api.test_problems import pointers, problem


@pytest.fixture
def dataset(stored: Engine) -> str:
    return rows.ready_dataset(stored)


def count(engine: Engine, dataset_id: str) -> int:
    with transaction(engine) as session:
        query = select(func.count()).select_from(SearchRow).where(SearchRow.dataset_id == dataset_id)
        return session.scalar(query) or 0


def cheapest(dataset_id: str) -> dict[str, int]:
    """The minimum of each cost among the candidates of the small search."""
    spec = SearchSpec.model_validate(rows.body(dataset_id)).resolve(DatasetProfile.model_validate(rows.PROFILE))
    costs = [candidate.cost for candidate in spec.candidates()]
    return {name: int(min(cost[name] for cost in costs)) for name in costs[0]}


def test_search_is_accepted_and_its_planning_enqueued(http: httpx.Client, stored: Engine, dataset: str) -> None:
    response = http.post("/v1/searches", json=rows.body(dataset, labels={"team": "vision"}, priority=3))
    assert response.status_code == 202, response.text
    search = SearchDetail.model_validate_json(response.content)
    assert response.headers["Location"] == f"/v1/searches/{search.id}"
    assert response.headers["Retry-After"] == "1"
    assert (search.state, search.method, search.priority) == ("queued", "mutualnet", 3)
    assert search.spec["method"]["batch_size"] == 64
    assert search.spec["dataset"]["classes"] == rows.PROFILE["classes"]
    assert search.progress.model_dump() == {"trials": {}, "fraction": 0, "eta_seconds": None}
    assert search.front.points == 0
    assert search.front.hypervolume == 0
    assert search.provenance["candidates"]["configurations"] == 8
    assert search.provenance["versions"]["paretofit"]
    assert http.get(f"/v1/searches/{search.id}").json() == response.json()
    with transaction(stored) as session:
        notifications = session.execute(
            select(OutboxRow.task, OutboxRow.priority).where(OutboxRow.subject == search.id)
        ).all()
    assert notifications == [("advance", 3)]
    events = http.get(f"/v1/searches/{search.id}/events").json()["data"]
    assert [(event["seq"], event["type"]) for event in events] == [(1, "search.created")]


@pytest.mark.parametrize("state", ["pending", "uploading", "validating", "rejected"])
def test_search_requires_a_ready_dataset(http: httpx.Client, stored: Engine, state: str) -> None:
    dataset_id = rows.ready_dataset(stored, state=state, manifest=None, profile=None)
    document = problem(http.post("/v1/searches", json=rows.body(dataset_id)), 409, "dataset_not_ready")
    assert document["state"] == state
    assert count(stored, dataset_id) == 0


@pytest.mark.parametrize("path", ["/v1/searches", "/v1/searches/estimate"])
def test_infeasible_constraint_is_rejected_with_the_nearest_cost(
    http: httpx.Client, stored: Engine, dataset: str, path: str
) -> None:
    least = cheapest(dataset)
    constraints: list[dict[str, Any]] = [
        {"metric": "params", "value": 1e12},
        {"metric": "macs", "value": least["macs"] - 1},
    ]
    document = problem(http.post(path, json=rows.body(dataset, constraints=constraints)), 422, "infeasible")
    assert pointers(document) == ["/constraints/1"]
    assert str(least["macs"]) in document["detail"]
    [nearest] = document["nearest"]
    assert (nearest["metric"], nearest["value"]) == ("macs", least["macs"])
    assert nearest["config"] == {"width": 0.25, "resolution": 24}
    assert count(stored, dataset) == 0
    constraints[1]["value"] = least["macs"]
    assert http.post(path, json=rows.body(dataset, constraints=constraints)).status_code in {200, 202}


def test_every_infeasible_constraint_is_named(http: httpx.Client, dataset: str) -> None:
    names = ("macs", "params", "peak_activation_bytes")
    constraints = [{"metric": name, "value": 1} for name in names]
    document = problem(http.post("/v1/searches", json=rows.body(dataset, constraints=constraints)), 422, "infeasible")
    assert pointers(document) == ["/constraints/0", "/constraints/1", "/constraints/2"]
    least = cheapest(dataset)
    assert [hint["value"] for hint in document["nearest"]] == [least[name] for name in names]


def test_estimate_stores_no_search(http: httpx.Client, stored: Engine, dataset: str) -> None:
    least = cheapest(dataset)
    body = rows.body(dataset, constraints=[{"metric": "macs", "value": least["macs"]}])
    estimate = http.post("/v1/searches/estimate", json=body).json()
    assert (estimate["configurations"], estimate["feasible"]) == (8, 1)
    assert estimate["cost"]["macs"] == {"min": least["macs"], "max": least["macs"]}
    assert estimate["cost"]["params"]["min"] >= least["params"]
    assert count(stored, dataset) == 0


def test_expected_time_is_based_on_completed_searches(http: httpx.Client, stored: Engine, dataset: str) -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)

    def add_finished_search(seconds: float, **values: Any) -> None:
        search_id = http.post("/v1/searches", json=rows.body(dataset)).json()["id"]
        trial_id = rows.trial(stored, search_id)
        with transaction(stored) as session:
            ended = began + timedelta(seconds=seconds)
            session.add(AttemptRow(trial_id=trial_id, epoch=1, worker="w", computing_at=began, ended_at=ended))
        rows.set_search(stored, search_id, state="succeeded", **values)

    add_finished_search(99999, stop_reason="max_wall_seconds")
    body = rows.body(dataset)
    before = http.post("/v1/searches/estimate", json=body).json()
    add_finished_search(100, stop_reason="completed")
    add_finished_search(50, stop_reason="completed")
    after = http.post("/v1/searches/estimate", json=body).json()
    assert after["based_on"] == before["based_on"] + 2
    if before["based_on"] == 0:
        assert before["expected_seconds"] is None
        assert after["expected_seconds"] == pytest.approx(75)
    twice = body | {"method": body["method"] | {"epochs": 4}}
    longer = http.post("/v1/searches/estimate", json=twice).json()
    assert longer["expected_seconds"] == pytest.approx(2 * after["expected_seconds"])


def test_progress_and_usage_are_reported(http: httpx.Client, stored: Engine, dataset: str) -> None:
    search_id = rows.search(stored, dataset)
    first = rows.trial(stored, search_id, 0)
    now = datetime.now(UTC)
    running = {"state": "running", "lease_epoch": 2, "lease_expires_at": now, "progress": 0.5}
    second = rows.trial(stored, search_id, 1, **running)
    rows.trial(stored, search_id, 2, state="queued")
    with transaction(stored) as session:
        for trial_id, epoch, begin, end in [(first, 1, 100, 40), (second, 1, 40, 30), (second, 2, 20, None)]:
            session.add(
                AttemptRow(
                    trial_id=trial_id,
                    epoch=epoch,
                    worker="w",
                    computing_at=now - timedelta(seconds=begin),
                    ended_at=None if end is None else now - timedelta(seconds=end),
                )
            )
    rows.set_search(stored, search_id, state="running", started_at=now - timedelta(seconds=100))
    search = SearchDetail.model_validate_json(http.get(f"/v1/searches/{search_id}").content)
    assert search.progress.trials == {"completed": 1, "running": 1, "queued": 1}
    assert search.progress.fraction == pytest.approx(0.5)
    assert search.progress.eta_seconds == pytest.approx(100, abs=20)
    assert search.usage.attempts == 3
    assert search.usage.device_seconds == pytest.approx(90, abs=20)
    rows.set_search(stored, search_id, state="failed", error={"code": "x"})
    ended = SearchDetail.model_validate_json(http.get(f"/v1/searches/{search_id}").content)
    assert (ended.progress.fraction, ended.progress.eta_seconds) == (1, None)


def test_searches_are_filtered(http: httpx.Client, stored: Engine, dataset: str) -> None:
    team = new_id("team")
    blue = rows.search(stored, dataset, labels={team: "blue"})
    red = rows.search(stored, dataset, labels={team: "a:b", "other": "blue"})
    rows.set_search(stored, red, state="failed")

    def listed(**filters: str) -> list[str]:
        response = http.get("/v1/searches", params=filters)
        assert response.status_code == 200, response.text
        return [search["id"] for search in response.json()["data"]]

    assert listed(label=team) == [red, blue]
    assert listed(label=f"{team}:blue") == [blue]
    assert listed(label=f"{team}:a:b") == [red]
    assert listed(label=team, state="queued") == [blue]
    assert listed(label=team, method="mutualnet") == [red, blue]
    assert listed(label=team, method="other") == []


def test_pagination_is_stable_while_searches_are_added(http: httpx.Client, stored: Engine, dataset: str) -> None:
    team = new_id("team")
    created = [rows.search(stored, dataset, labels={team: ""}) for _ in range(5)]
    seen: list[str] = []
    params = {"label": team, "limit": "2"}
    while True:
        page = http.get("/v1/searches", params=params).json()
        seen += [search["id"] for search in page["data"]]
        rows.search(stored, dataset, labels={team: ""})
        if not page["has_more"]:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == created[::-1]


def test_cancel_is_idempotent_and_rejects_finished_searches(http: httpx.Client, stored: Engine, dataset: str) -> None:
    search_id = rows.search(stored, dataset)
    rows.trial(stored, search_id, state="queued")
    response = http.post(f"/v1/searches/{search_id}/cancel")
    assert response.status_code == 202, response.text
    assert response.json()["state"] == "cancelled"
    assert response.json()["progress"]["trials"] == {"cancelled": 1}
    assert http.post(f"/v1/searches/{search_id}/cancel").json()["state"] == "cancelled"
    finished = rows.search(stored, dataset)
    rows.set_search(stored, finished, state="succeeded")
    problem(http.post(f"/v1/searches/{finished}/cancel"), 409, "search_finished")


def test_only_finished_searches_can_be_deleted(http: httpx.Client, stored: Engine, dataset: str) -> None:
    search_id = rows.search(stored, dataset)
    trial_id = rows.trial(stored, search_id)
    artifact_id = rows.artifact(stored, search_id, trial_id, name="a", sha256="0" * 64, size=1)
    point_id = rows.point(stored, search_id, trial_id, "k", artifact_id=artifact_id, macs=1.0, selection_top1=0.5)
    problem(http.delete(f"/v1/searches/{search_id}"), 409, "search_not_finished")
    rows.set_search(stored, search_id, state="succeeded")
    assert http.delete(f"/v1/searches/{search_id}").status_code == 204
    for path in (f"searches/{search_id}", f"trials/{trial_id}", f"artifacts/{artifact_id}", f"points/{point_id}"):
        problem(http.get(f"/v1/{path}"), 404, "not_found")
