"""Searches that start from trained weights, or from a point of an earlier search."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, update

from paretofit.db import artifacts
from paretofit.db.engine import transaction
from paretofit.db.leases import assignment
from paretofit.db.planning import advance
from paretofit.db.tables import PointRow, SearchRow
from paretofit.models.families.registry import architecture
from tests.api import rows
from tests.api.test_problems import pointers, problem
from tests.db import rows as workers

SHA256 = "c" * 64


@pytest.fixture
def dataset(stored: Engine) -> str:
    return rows.ready_dataset(stored)


def add_vgg16_point(engine: Engine, dataset: str, *, weights: bool = True, **changes: Any) -> str:
    """Add a point that is a VGG-16 of seven classes, or has these `changes`. Returns its id."""
    search_id = rows.search(engine, dataset)
    trial_id = rows.trial(engine, search_id)
    name = "human-vgg16.safetensors"
    file = rows.artifact(engine, search_id, trial_id, name=name, sha256=SHA256, size=9) if weights else None
    point_id = rows.point(engine, search_id, trial_id, "human-vgg16", artifact_id=file, role="baseline")
    defaults: dict[str, Any] = {"family": "vgg16", "nominal": 32, "classes": 7, "channels": 1, "base_width": 0.25}
    network = architecture(**defaults | changes)
    with transaction(engine) as session:
        record = session.get_one(PointRow, point_id).record | {
            "architecture": network.to_json(),
            "classes": [f"c{number}" for number in range(network.classes)],
            "preprocessing": {"crop": [32, 32], "mean": [0.25] * network.channels, "std": [0.5] * network.channels},
        }
        session.execute(update(PointRow).where(PointRow.id == point_id).values(record=record))
    return point_id


def body(dataset: str, start: str) -> dict[str, Any]:
    method = {"kind": "shape_adaptor", "families": ["vgg16"], "modes": ["autotl"], "base_width": 0.25, "targets": [0]}
    method["human"] = False
    return rows.body(dataset, method=method | {"init_from": start})


def test_first_trial_keeps_the_initial_weights(http: httpx.Client, stored: Engine, dataset: str) -> None:
    point_id = add_vgg16_point(stored, dataset)
    response = http.post("/v1/searches", json=body(dataset, point_id))
    assert response.status_code == 202, response.text
    search_id = response.json()["id"]
    with transaction(stored) as session:
        # The search of the point is deleted, but the weights stay available.
        session.delete(session.get_one(SearchRow, session.get_one(PointRow, point_id).search_id))
    advance(stored, search_id)
    [trial] = http.get(f"/v1/searches/{search_id}/trials").json()["data"]
    assert trial["params"]["config"]["mode"] == "autotl"
    assert {"trial": None, "artifact": "initial.safetensors"} in trial["inputs"].values()
    lease = workers.take(stored, trial["id"])
    with transaction(stored) as session:
        assert set(assignment(session, lease).inputs.values()) == {SHA256}
    assert http.post(f"/v1/searches/{search_id}/cancel").status_code == 202


@pytest.mark.parametrize("path", ["/v1/searches", "/v1/searches/estimate"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": False}, "has no weights of its own"),
        ({"family": "resnet18"}, "its family is resnet18, but the network's is vgg16"),
        ({"base_width": 0.125}, "choose a smaller width"),
    ],
)
def test_unsuitable_points_are_rejected(
    http: httpx.Client, stored: Engine, dataset: str, path: str, changes: dict[str, Any], message: str
) -> None:
    document = problem(http.post(path, json=body(dataset, add_vgg16_point(stored, dataset, **changes))), 422, "invalid")
    assert pointers(document) == ["/method/init_from"]
    assert message in document["detail"]


def test_any_method_can_start_from_a_point(http: httpx.Client, stored: Engine, dataset: str) -> None:
    point_id = add_vgg16_point(stored, dataset)
    method = {"kind": "mutualnet", "start": {"point": point_id}}
    spec = http.post("/v1/searches", json=rows.body(dataset, method=method)).json()["spec"]
    assert (spec["start"]["kind"], spec["start"]["family"], spec["start"]["sha256"]) == ("point", "vgg16", SHA256)
    assert point_id in spec["start"]["source"]
    # Images are normalized like the training images of the weights.
    assert (spec["dataset"]["mean"], spec["dataset"]["std"]) == ([0.25], [0.5])


def test_search_keeps_the_weights_it_starts_from(http: httpx.Client, stored: Engine, dataset: str) -> None:
    weights_id = workers.add_weights(stored, name="fd", sha256=SHA256)
    method = {"kind": "mutualnet", "start": {"weights": "fd"}}
    response = http.post("/v1/searches", json=rows.body(dataset, method=method))
    assert response.status_code == 202, response.text
    spec, search_id = response.json()["spec"], response.json()["id"]
    # The spec stores the id, because the name may later refer to other weights.
    assert spec["method"]["start"]["weights"] == weights_id
    assert spec["start"]["licence"] == workers.RECORD["licence"]
    assert (spec["method"]["family"], spec["method"]["base_width"]) == ("fd_mobilenet", 0.25)
    assert http.delete(f"/v1/weights/{weights_id}").status_code == 204
    advance(stored, search_id)
    trial = next(trial for trial in http.get(f"/v1/searches/{search_id}/trials").json()["data"] if trial["inputs"])
    lease = workers.take(stored, trial["id"])
    with transaction(stored) as session:
        assert set(assignment(session, lease).inputs.values()) == {SHA256}
    assert http.post(f"/v1/searches/{search_id}/cancel").status_code == 202


def test_clone_starts_from_the_weights_kept_by_the_original(http: httpx.Client, stored: Engine, dataset: str) -> None:
    weights_id = workers.add_weights(stored, sha256=SHA256)
    body = rows.body(dataset, method={"kind": "mutualnet", "start": {"weights": weights_id}})
    search = http.post("/v1/searches", json=body).json()
    assert http.delete(f"/v1/weights/{weights_id}").status_code == 204
    response = http.post(f"/v1/searches/{search['id']}/clone", json={"seed": 7})
    assert response.status_code == 202, response.text
    clone = response.json()
    assert clone["spec"]["start"] == search["spec"]["start"]
    assert clone["spec"]["method"] == search["spec"]["method"]
    assert clone["spec"]["dataset"] == search["spec"]["dataset"]
    assert clone["provenance"]["cloned_from"] == search["id"]
    with transaction(stored) as session:
        copy = artifacts.initial(session, clone["id"])
        assert copy is not None
        assert copy.sha256 == SHA256
    for each in (search, clone):
        assert http.post(f"/v1/searches/{each['id']}/cancel").status_code == 202


@pytest.mark.parametrize("path", ["/v1/searches", "/v1/searches/estimate"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"state": "converting"}, "are converting: wait until they are ready"),
        ({"state": "rejected"}, "are rejected: add others"),
        ({"tenant_id": "other"}, "you have no weights"),
    ],
)
def test_unavailable_weights_are_rejected(
    http: httpx.Client, stored: Engine, dataset: str, path: str, values: dict[str, str], message: str
) -> None:
    weights_id = workers.add_weights(stored, **values)
    method = {"kind": "mutualnet", "start": {"weights": weights_id}}
    document = problem(http.post(path, json=rows.body(dataset, method=method)), 422, "invalid")
    assert pointers(document) == ["/method/start/weights"]
    assert message in document["detail"]


@pytest.mark.parametrize(
    ("start", "pointer", "message"),
    [
        ({"weights": "resnet50"}, "/method/start/weights", "`paretofit weights add resnet50` fetches them"),
        ({"weights": "none"}, "/method/start/weights", "GET /v1/weights lists yours"),
        ({"point": "pt_none"}, "/method/start/point", "no such point"),
        ({"file": "/etc/passwd"}, "/method/start/file", "`paretofit weights add FILE`"),
        ({"weights": "a", "point": "b"}, "/method/start", "exactly one"),
    ],
)
def test_invalid_starts_are_rejected_with_advice(
    http: httpx.Client, dataset: str, start: dict[str, str], pointer: str, message: str
) -> None:
    method = {"kind": "mutualnet", "start": start}
    document = problem(http.post("/v1/searches", json=rows.body(dataset, method=method)), 422, "invalid")
    assert pointers(document) == [pointer]
    assert message in str(document)


def test_path_in_init_from_is_rejected_at_its_field(http: httpx.Client, dataset: str) -> None:
    document = problem(http.post("/v1/searches", json=body(dataset, "a/b")), 422, "invalid")
    assert pointers(document) == ["/method/init_from"]
    assert document["detail"].startswith("init_from: the service does not read local files")


def test_start_of_another_family_is_rejected_at_its_field(http: httpx.Client, stored: Engine, dataset: str) -> None:
    weights_id = workers.add_weights(stored)
    method = {"kind": "mutualnet", "family": "resnet18", "start": {"weights": weights_id}}
    document = problem(http.post("/v1/searches", json=rows.body(dataset, method=method)), 422, "invalid")
    assert pointers(document) == ["/method/start"]
    method = {"kind": "scalenet", "start": {"weights": weights_id}}
    document = problem(http.post("/v1/searches", json=rows.body(dataset, method=method)), 422, "invalid")
    assert "that published weights lack" in str(document)


def test_points_of_other_tenants_are_not_found(http: httpx.Client, stored: Engine, dataset: str) -> None:
    point_id = add_vgg16_point(stored, dataset)
    with transaction(stored) as session:
        session.execute(update(PointRow).where(PointRow.id == point_id).values(tenant_id="other"))
    for start in (point_id, "pt_none"):
        document = problem(http.post("/v1/searches", json=body(dataset, start)), 422, "invalid")
        assert "no such point" in document["detail"]
