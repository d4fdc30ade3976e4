"""The joint front of all searches of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from paretofit.api.schemas.points import DatasetFront
from tests.api import rows
from tests.api.test_problems import pointers, problem

DEVICE, OTHER_DEVICE = "onnxruntime-cpu-1t", "ncnn-cpu-1t"
LATENCY = f"latency_ms:{DEVICE}"


@dataclass(frozen=True)
class Joined:
    """A dataset with three searches."""

    dataset: str
    bounded: str
    running: str
    failed: str


def add(engine: Engine, search_id: str, number: int = 0, /, **found: dict[str, Any]) -> None:
    """Add a trial with points by key; each has a checkpoint unless its `artifact_id` is None."""
    trial = rows.trial(engine, search_id, number)
    for key, metrics in found.items():
        file = rows.artifact(engine, search_id, trial, name=key, sha256="1" * 64, size=9)
        rows.point(engine, search_id, trial, key, **{"params": 1.0, "artifact_id": file, **metrics})


@pytest.fixture(scope="module")
def joined(stored: Engine) -> Joined:
    dataset = rows.ready_dataset(stored, report={"class_counts": rows.COUNTS})
    bounded = rows.search(
        stored,
        dataset,
        name="bounded",
        constraints=[{"metric": "macs", "value": 5e6}, {"metric": "latency_ms", "device": DEVICE, "value": 9}],
    )
    running = rows.search(stored, dataset, name="running")
    failed = rows.search(stored, dataset, name="failed")
    add(
        stored,
        bounded,
        small={"macs": 1e5, "selection_top1": 0.5, LATENCY: 1.0},
        medium={"macs": 1e6, "selection_top1": 0.7, LATENCY: 2.0},
        beyond={"macs": 6e6, "selection_top1": 0.9, LATENCY: 3.0},
        reference={"macs": 2.0, "selection_top1": 1.0, "role": "baseline"},
    )
    add(
        stored,
        running,
        better={"macs": 9e5, "selection_top1": 0.75},
        swept={"macs": 10.0, "selection_top1": 0.99, "artifact_id": None},
        unmeasured={"macs": 11.0, "selection_top1": None},
        infinite={"macs": 1e5, "params": None, "selection_top1": 0.4},
    )
    add(stored, failed, large={"macs": 2e6, "selection_top1": 0.8, "top1": 0.78})
    rows.set_search(stored, bounded, state="succeeded", stop_reason="completed")
    rows.set_search(stored, failed, state="failed")
    elsewhere = rows.search(stored, rows.ready_dataset(stored))
    add(stored, elsewhere, best={"macs": 1.0, "selection_top1": 1.0})
    return Joined(dataset, bounded, running, failed)


def front(http: httpx.Client, dataset: str, **params: str) -> DatasetFront:
    response = http.get(f"/v1/datasets/{dataset}/front", params=params)
    assert response.status_code == 200, response.text
    return DatasetFront.model_validate_json(response.content)


def test_joint_front_holds_the_nondominated_points_of_all_searches(http: httpx.Client, joined: Joined) -> None:
    result = front(http, joined.dataset)
    assert [(point.key, point.search_name) for point in result.points] == [
        ("small", "bounded"),
        ("better", "running"),
        ("large", "failed"),
        ("beyond", "bounded"),
    ]
    assert [point.search_id for point in result.points] == [
        joined.bounded,
        joined.running,
        joined.failed,
        joined.bounded,
    ]
    assert {point.method for point in result.points} == {"mutualnet"}
    assert all(point.artifact is not None for point in result.points)
    assert (result.dataset_id, result.x, result.device, result.dominated) == (joined.dataset, "macs", None, None)
    assert (result.majority_class, result.majority_selection_top1) == ("boot", 0.4)


def test_constraints_of_a_search_do_not_apply(http: httpx.Client, joined: Joined) -> None:
    feasible = {point.key: point.feasible for point in front(http, joined.dataset).points}
    assert feasible == {"small": True, "better": True, "large": True, "beyond": False}


def test_dominated_points_are_included_on_request(http: httpx.Client, joined: Joined) -> None:
    result = front(http, joined.dataset, include="dominated")
    assert [point.key for point in result.dominated or ()] == ["medium", "infinite"]
    over_params = front(http, joined.dataset, x="params", include="dominated")
    assert [point.key for point in over_params.points] == ["beyond"]
    assert "infinite" in {point.key for point in over_params.dominated or ()}


def test_latency_axis_holds_the_points_measured_on_the_device(http: httpx.Client, joined: Joined) -> None:
    for params in ({"device": DEVICE}, {}):
        result = front(http, joined.dataset, x="latency_ms", **params)
        assert result.device == DEVICE
        assert [point.key for point in result.points] == ["small", "medium", "beyond"]


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("x=latency_ms&device=torch-cuda", "?device", f"use one of {DEVICE}"),
        (f"device={DEVICE}", "?device", "remove `device`"),
        ("x=top1", "?x", "macs"),
        ("y=macs", "?y", "selection_top1"),
        ("include=all", "?include", "dominated"),
    ],
)
def test_invalid_query_names_the_parameter(
    http: httpx.Client, joined: Joined, query: str, pointer: str, detail: str
) -> None:
    document = problem(http.get(f"/v1/datasets/{joined.dataset}/front?{query}"), 422, "invalid")
    assert pointers(document) == [pointer]
    assert detail in document["errors"][0]["detail"]


def test_several_devices_require_a_choice(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    detail = problem(http.get(f"/v1/datasets/{dataset}/front?x=latency_ms"), 422, "invalid")["detail"]
    assert detail == "latency_ms requires a device of the dataset's searches: none was measured, use another cost"
    for device in (DEVICE, OTHER_DEVICE):
        rows.search(stored, dataset, constraints=[{"metric": "latency_ms", "device": device, "value": 5}])
    detail = problem(http.get(f"/v1/datasets/{dataset}/front?x=latency_ms"), 422, "invalid")["detail"]
    assert detail.endswith(f"use one of {OTHER_DEVICE}, {DEVICE}")
    assert front(http, dataset, x="latency_ms", device=DEVICE).points == []


def test_unknown_dataset_is_not_found(http: httpx.Client) -> None:
    detail = problem(http.get("/v1/datasets/none/front"), 404, "not_found")["detail"]
    assert detail == "no dataset 'none'; GET /v1/datasets lists yours"


def test_unchanged_front_is_not_sent_again(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    url = f"/v1/datasets/{dataset}/front"

    def read() -> tuple[str, DatasetFront]:
        response = http.get(url)
        etag = response.headers["ETag"]
        same = http.get(url, headers={"If-None-Match": etag})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
        assert response.headers["Cache-Control"] == same.headers["Cache-Control"] == "private, no-cache"
        return etag, DatasetFront.model_validate_json(response.content)

    empty, result = read()
    assert result.points == []
    search = rows.search(stored, dataset)
    added, _ = read()
    add(stored, search, k={"macs": 1e6, "selection_top1": 0.5})
    grown, result = read()
    assert len(result.points) == 1
    assert http.patch(f"/v1/searches/{search}", json={"name": "renamed"}).status_code == 200
    renamed, result = read()
    assert [point.search_name for point in result.points] == ["renamed"]
    assert len({empty, added, grown, renamed}) == 4
    rows.set_search(stored, search, state="cancelled")
    assert http.delete(f"/v1/searches/{search}").status_code == 204
    deleted, result = read()
    assert (deleted, result.points) == (empty, [])


def test_equal_points_of_several_searches_are_all_kept(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    twins = [rows.search(stored, dataset) for _ in range(2)]
    for search in twins:
        add(stored, search, k={"macs": 1e6, "selection_top1": 0.5})
    assert [point.search_id for point in front(http, dataset).points] == twins
