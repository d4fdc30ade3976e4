"""The methods, families and workers that the service lists."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import get_args

import httpx
import jsonschema
import pytest
from sqlalchemy import Engine, update

from paretofit.api.schemas.datasets import DatasetState
from paretofit.api.schemas.searches import TERMINAL, SearchState
from paretofit.api.schemas.trials import TrialState
from paretofit.api.schemas.weights import WeightsState
from paretofit.db import states, workers
from paretofit.db.engine import transaction
from paretofit.db.tables import WorkerRow
from paretofit.models.pretrained.sources import SOURCES
from paretofit.search.registry import methods


def test_methods_are_listed_with_their_schemas(http: httpx.Client) -> None:
    [method] = [method for method in http.get("/v1/methods").json()["data"] if method["kind"] == "mutualnet"]
    assert method["summary"]
    assert "arXiv" in method["paper"]
    schema = http.get("/v1/methods/mutualnet/schema").json()
    assert all(field.get("description") for name, field in schema["properties"].items() if name != "kind")
    jsonschema.validate({"kind": "mutualnet", **method["presets"]["tiny"]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"kind": "mutualnet", "no_such_parameter": 1}, schema)


def test_families_are_listed(http: httpx.Client) -> None:
    families = {family["name"]: family for family in http.get("/v1/families").json()["data"]}
    assert {"fd_mobilenet", "mobilenet_v1"} <= families.keys()
    assert any(re.fullmatch(family["pattern"], "wrn_28_10") for family in families.values())
    assert (families["vgg16"]["stages"], families["vgg16"]["groups"]) == (5, [])
    assert (families["shufflenet_v1"]["stages"], families["shufflenet_v1"]["groups"]) == (0, [1, 2, 3, 4, 8])


def test_families_list_their_published_weights(http: httpx.Client) -> None:
    families = {family["name"]: family for family in http.get("/v1/families").json()["data"]}
    named = [name for family in families.values() for name in family["sources"]]
    assert sorted(named) == sorted(SOURCES)
    assert families["fd_mobilenet"]["sources"] == ["fd_mobilenet"]
    assert "mobilenet_v2_140_timm" in families["mobilenet_v2"]["sources"]
    assert families["vgg16"]["sources"] == ["vgg16_bn"]
    assert families["scalenet"]["sources"] == []


def test_methods_declare_whether_they_start_from_weights(http: httpx.Client) -> None:
    starting = {method["kind"]: method["takes_start"] for method in http.get("/v1/methods").json()["data"]}
    assert starting == {kind: kind != "scalenet" for kind in methods()}


def test_workers_are_listed_with_their_liveness(http: httpx.Client, stored: Engine) -> None:
    with transaction(stored) as session:
        workers.beat(session, "here", queue="train", device="cpu", description={"threads": 2})
        workers.beat(session, "silent", queue="light", device=None, description={})
        session.execute(
            update(WorkerRow).where(WorkerRow.name == "silent").values(seen_at=datetime.now(UTC) - timedelta(minutes=2))
        )
    listed = {worker["name"]: worker for worker in http.get("/v1/workers").json()["data"]}
    assert (listed["here"]["alive"], listed["here"]["device"], listed["here"]["description"]) == (
        True,
        "cpu",
        {"threads": 2},
    )
    assert listed["silent"]["alive"] is False


def test_states_match_the_database() -> None:
    assert get_args(SearchState) == tuple(states.SEARCH)
    assert get_args(TrialState) == tuple(states.TRIAL)
    assert get_args(DatasetState) == tuple(states.DATASET)
    assert get_args(WeightsState) == tuple(states.WEIGHTS)
    assert frozenset(states.terminal(states.SEARCH)) == TERMINAL
