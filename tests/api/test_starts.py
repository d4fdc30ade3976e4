"""Searches that start from a point of an earlier one."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, update

from db.engine import transaction
from db.leases import assignment
from db.planning import advance
from db.tables import PointRow, SearchRow
from models.families.registry import architecture
from tests.api import rows
from tests.api.test_problems import pointers, problem
from tests.db import rows as workers

SHA256 = "c" * 64


@pytest.fixture
def dataset(stored: Engine) -> str:
    return rows.ready_dataset(stored)


def human(engine: Engine, dataset: str, *, weights: bool = True, **shape: Any) -> str:
    """The id of a point that is a VGG-16 of seven classes; that of another `family` or `base_width`, if `shape` says so."""
    search_id = rows.search(engine, dataset)
    trial_id = rows.trial(engine, search_id)
    name = "human-vgg16.safetensors"
    file = rows.artifact(engine, search_id, trial_id, name=name, sha256=SHA256, size=9) if weights else None
    point_id = rows.point(engine, search_id, trial_id, "human-vgg16", artifact_id=file, role="baseline")
    asked: dict[str, Any] = {"family": "vgg16", "nominal": 32, "classes": 7, "channels": 1, "base_width": 0.25}
    network = architecture(**asked | shape)
    with transaction(engine) as session:
        record = session.get_one(PointRow, point_id).record | {"architecture": network.to_json()}
        session.execute(update(PointRow).where(PointRow.id == point_id).values(record=record))
    return point_id


def body(dataset: str, start: str) -> dict[str, Any]:
    method = {"kind": "shape_adaptor", "modes": ["autotl"], "base_width": 0.25, "targets": [0], "human": False}
    return rows.body(dataset, method=method | {"init_from": start})


def test_the_first_trial_gets_the_weights_and_keeps_them(http: httpx.Client, stored: Engine, dataset: str) -> None:
    point_id = human(stored, dataset)
    answer = http.post("/v1/searches", json=body(dataset, point_id))
    assert answer.status_code == 202, answer.text
    search_id = answer.json()["id"]
    with transaction(stored) as session:
        # Whatever becomes of where they came from.
        session.delete(session.get_one(SearchRow, session.get_one(PointRow, point_id).search_id))
    with transaction(stored) as session:
        advance(session, search_id)
    [trial] = http.get(f"/v1/searches/{search_id}/trials").json()["data"]
    assert trial["params"]["config"]["mode"] == "autotl"
    assert trial["inputs"] == {"pretrained": {"trial": None, "artifact": "initial.safetensors"}}
    lease = workers.take(stored, trial["id"])
    with transaction(stored) as session:
        assert assignment(session, lease).inputs == {"pretrained": SHA256}
    assert http.post(f"/v1/searches/{search_id}/cancel").status_code == 202


@pytest.mark.parametrize("path", ["/v1/searches", "/v1/searches/estimate"])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"weights": False}, "has no weights of its own"),
        ({"family": "resnet18"}, "is a resnet18 .* human-designed vgg16"),
        ({"base_width": 0.5}, "at base_width 0.25: take the point human-vgg16"),
        ({"channels": 3}, "for 3 channels .* for 1 and 32"),
    ],
)
def test_what_it_cannot_start_from_is_refused(
    http: httpx.Client, stored: Engine, dataset: str, path: str, asked: dict[str, Any], said: str
) -> None:
    document = problem(http.post(path, json=body(dataset, human(stored, dataset, **asked))), 422, "invalid")
    assert pointers(document) == ["/method/init_from"]
    assert re.search(said, document["detail"])


def test_another_tenants_point_is_none(http: httpx.Client, stored: Engine, dataset: str) -> None:
    point_id = human(stored, dataset)
    with transaction(stored) as session:
        session.execute(update(PointRow).where(PointRow.id == point_id).values(tenant_id="other"))
    for start in (point_id, "pt_none"):
        document = problem(http.post("/v1/searches", json=body(dataset, start)), 422, "invalid")
        assert "no such point of yours" in document["detail"]
