"""The front of a search and the selection of a point."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from paretofit.api.schemas.points import Cost, Front
from tests.api import rows
from tests.api.test_problems import pointers, problem

POINTS: dict[str, dict[str, Any]] = {
    "small": {"macs": 1e5, "selection_top1": 0.5, "params": 30.0, "top1": 0.45},
    "medium": {"macs": 1e6, "selection_top1": 0.7, "params": 20.0, "top1": 0.75},
    "worse": {"macs": 2e6, "selection_top1": 0.6, "params": 10.0},
    "equal": {"macs": 1e6, "selection_top1": 0.7, "params": 20.0},
    "large": {"macs": 4e6, "selection_top1": 0.8, "params": 40.0, "top1": 0.72},
    "beyond": {"macs": 1e7, "selection_top1": 0.99, "params": 50.0},
    "unmeasured": {"macs": 1.0, "params": 1.0},
    "reference": {"macs": 2.0, "selection_top1": 1.0, "params": 1.0, "role": "baseline"},
}


@pytest.fixture(scope="module")
def search_id(stored: Engine) -> str:
    """A search with a constraint of 5 MMACs; `small` has a checkpoint."""
    dataset_id = rows.ready_dataset(stored)
    search_id = rows.search(stored, dataset_id, constraints=[{"metric": "macs", "value": 5e6}])
    trial_id = rows.trial(stored, search_id)
    artifact_id = rows.artifact(stored, search_id, trial_id, name="small.safetensors", sha256="1" * 64, size=9)
    for key, metrics in POINTS.items():
        extra = {"artifact_id": artifact_id} if key == "small" else {}
        rows.point(stored, search_id, trial_id, key, **metrics, **extra)
    return search_id


@pytest.fixture(scope="module")
def empty(stored: Engine) -> str:
    return rows.search(stored, rows.ready_dataset(stored))


def front(http: httpx.Client, search_id: str, **params: str) -> Front:
    response = http.get(f"/v1/searches/{search_id}/front", params=params)
    assert response.status_code == 200, response.text
    return Front.model_validate_json(response.content)


def select(http: httpx.Client, search_id: str, *bounds: tuple[str, str, float]) -> httpx.Response:
    constraints = [{"metric": metric, "op": op, "value": value} for metric, op, value in bounds]
    return http.post(f"/v1/searches/{search_id}/front/select", json={"constraints": constraints})


def test_front_holds_the_nondominated_points(http: httpx.Client, search_id: str) -> None:
    result = front(http, search_id)
    assert [point.key for point in result.points] == ["small", "medium", "equal", "large"]
    assert [point.key for point in result.baselines] == ["reference"]
    assert result.dominated is None
    assert all(point.feasible for point in result.points)
    small, medium, *_ = result.points
    assert small.artifact is not None
    assert (small.artifact.sha256, small.artifact.size) == ("1" * 64, 9)
    assert (medium.artifact, medium.basis, medium.input_size) == (None, "measured", (32, 32))
    assert medium.metrics == POINTS["medium"]


def test_dominated_points_are_included_on_request(http: httpx.Client, search_id: str) -> None:
    result = front(http, search_id, include="dominated")
    assert result.dominated is not None
    assert {point.key: point.feasible for point in result.dominated} == {
        "worse": True,
        "beyond": False,
        "unmeasured": True,
    }


def test_front_depends_on_the_cost_axis(http: httpx.Client, search_id: str) -> None:
    assert [point.key for point in front(http, search_id, x="params").points] == ["worse", "medium", "equal", "large"]
    assert pointers(problem(http.get(f"/v1/searches/{search_id}/front?x=top1"), 422, "invalid")) == ["?x"]
    assert pointers(problem(http.get(f"/v1/searches/{search_id}/front?y=macs"), 422, "invalid")) == ["?y"]


def test_hypervolume_matches_its_definition(http: httpx.Client, search_id: str) -> None:
    least, most = (math.log10(macs) for macs in rows.MACS)
    right, chance = math.log10(1.1) + most, 1 / len(rows.PROFILE["classes"])
    area = sum(
        (right - math.log10(point["macs"])) * (point["selection_top1"] - below)
        for point, below in [
            (POINTS["small"], chance),
            (POINTS["medium"], 0.5),
            (POINTS["large"], 0.7),
        ]
    )
    result = front(http, search_id)
    assert result.hypervolume == pytest.approx(area / ((right - least) * (1 - chance)), abs=1e-12)
    assert result.reference is not None
    assert result.reference.model_dump() == pytest.approx({"macs": 1.1e7, "selection_top1": 0.25})
    assert result.ideal is not None
    assert result.ideal.model_dump() == pytest.approx({"macs": 1e5, "selection_top1": 1})
    summary = http.get(f"/v1/searches/{search_id}").json()["front"]
    assert summary == {
        "sequence": len(POINTS),
        "points": 4,
        "best_selection_top1": 0.8,
        "best_top1": 0.72,
        "macs_min": 1e5,
        "macs_max": 4e6,
        "hypervolume": result.hypervolume,
        "unmet": [],
        "majority_class": None,
        "majority_top1": None,
        "majority_selection_top1": None,
    }


def test_unchanged_front_is_not_sent_again(http: httpx.Client, stored: Engine, empty: str) -> None:
    url = f"/v1/searches/{empty}/front"
    first = http.get(url)
    assert (first.headers["ETag"], first.json()["points"], first.json()["hypervolume"]) == ('"0"', [], 0)
    same = http.get(url, headers={"If-None-Match": '"0"'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", '"0"')
    rows.point(stored, empty, rows.trial(stored, empty), "k", macs=1e6, selection_top1=0.5)
    grown = http.get(url, headers={"If-None-Match": '"0"'})
    assert (grown.status_code, grown.headers["ETag"], len(grown.json()["points"])) == (200, '"1"', 1)


@pytest.mark.parametrize(
    ("bounds", "key"),
    [
        ([], "large"),
        ([("macs", "<=", 1e6)], "medium"),
        ([("macs", "<=", 999_999)], "small"),
        ([("params", "<=", 35)], "medium"),
        ([("selection_top1", ">=", 0.8), ("macs", "<=", 4e6)], "large"),
    ],
)
def test_most_accurate_point_within_the_bounds_is_selected(
    http: httpx.Client, search_id: str, bounds: list[tuple[str, str, float]], key: str
) -> None:
    response = select(http, search_id, *bounds)
    assert response.status_code == 200, response.text
    assert response.json()["key"] == ("equal" if key == "medium" else key)  # ties are resolved by key


@pytest.mark.parametrize("cost", ["macs", "params"])
def test_table_matches_selection_under_every_bound(http: httpx.Client, search_id: str, cost: Cost) -> None:
    table = front(http, search_id).best_under[cost]
    assert [step.bound for step in table] == sorted({step.bound for step in table})
    values = sorted({point[cost] for point in POINTS.values()})
    for bound in [value + shift for value in values for shift in (-0.5, 0, 0.5)]:
        response = select(http, search_id, (cost, "<=", max(bound, 0)))
        within = [step for step in table if step.bound <= bound]
        if within:
            result = response.json()
            assert (result["id"], result["metrics"]["selection_top1"]) == (
                within[-1].point_id,
                within[-1].selection_top1,
            )
        else:
            problem(response, 409, "no_point_fits")


@pytest.mark.parametrize(
    ("bounds", "nearest"),
    [
        ([("macs", "<=", 10)], [("/constraints/0", 1e5)]),
        ([("selection_top1", ">=", 0.9)], [("/constraints/0", 0.8)]),
        ([("macs", "<=", 1e6), ("selection_top1", ">=", 0.75)], [("/constraints/0", 4e6), ("/constraints/1", 0.7)]),
        ([("macs", "<=", 10), ("selection_top1", ">=", 0.9)], [("/constraints/0", 1e5), ("/constraints/1", 0.8)]),
    ],
)
def test_unmet_bounds_are_rejected_with_the_nearest_values(
    http: httpx.Client, search_id: str, bounds: list[tuple[str, str, float]], nearest: list[tuple[str, float]]
) -> None:
    document = problem(select(http, search_id, *bounds), 409, "no_point_fits")
    assert [(hint["pointer"], hint["value"]) for hint in document["nearest"]] == nearest
    assert pointers(document) == [pointer for pointer, _ in nearest]


def test_empty_front_has_nothing_to_select(http: httpx.Client, stored: Engine) -> None:
    search_id = rows.search(stored, rows.ready_dataset(stored))
    assert "still empty" in problem(select(http, search_id), 409, "no_point_fits")["detail"]
    rows.set_search(stored, search_id, state="succeeded", stop_reason="max_epochs")
    detail = problem(select(http, search_id), 409, "no_point_fits")["detail"]
    assert detail.endswith("its front is empty: it ended before it had trained a network")


def test_finished_search_reports_the_nearest_point(http: httpx.Client, stored: Engine) -> None:
    bound = {"metric": "macs", "op": "<=", "value": 2e5}
    search_id = rows.search(stored, rows.ready_dataset(stored), constraints=[bound])
    trial = rows.trial(stored, search_id)
    for macs in (4e5, 3e5):
        rows.point(stored, search_id, trial, f"w{macs}", macs=macs, selection_top1=0.5)
    rows.set_search(stored, search_id, state="succeeded", stop_reason="completed")
    document = problem(select(http, search_id), 409, "no_point_fits")
    assert "macs <= 200000 is not met by any network; the nearest has 300000" in document["detail"]
    assert [hint["value"] for hint in document["nearest"]] == [3e5]
    [unmet] = http.get(f"/v1/searches/{search_id}").json()["front"]["unmet"]
    assert (unmet["metric"], unmet["value"], unmet["nearest"]) == ("macs", 2e5, 3e5)
    page = http.get(f"/searches/{search_id}").text
    assert "No network meets the constraint MACs ≤ 200k" in page
    assert f'<a href="/points/{unmet["point_id"]}">the nearest</a> has 300k' in page
    assert "violates a constraint" in page


def test_invalid_bound_is_rejected(http: httpx.Client, search_id: str) -> None:
    document = problem(select(http, search_id, ("latency", "<=", 1)), 422, "invalid")
    assert pointers(document) == ["/constraints/0/metric"]


def test_point_has_its_full_record(http: httpx.Client, search_id: str) -> None:
    point = front(http, search_id).points[0]
    detail = http.get(f"/v1/points/{point.id}").json()
    assert detail["record"]["architecture"] == {"version": 1}
    assert {name: detail[name] for name in ("id", "key", "metrics", "feasible")} == {
        "id": point.id,
        "key": "small",
        "metrics": POINTS["small"],
        "feasible": True,
    }
