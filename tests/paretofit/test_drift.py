"""The types of the client match the OpenAPI document, and the client covers every operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter

from paretofit.api.app import create_app
from paretofit.api.schemas.access import ApiKey, Caller, IssuedApiKey
from paretofit.api.schemas.artifacts import Artifact
from paretofit.api.schemas.devices import DeviceList
from paretofit.api.schemas.events import Event
from paretofit.api.schemas.exports import Export, ExportList
from paretofit.api.schemas.health import Readiness
from paretofit.api.schemas.methods import FamilyList, MethodList
from paretofit.api.schemas.pages import Page
from paretofit.api.schemas.searches import Estimate
from paretofit.api.schemas.trials import Curves, LogLine, Trial, TrialDetail
from paretofit.api.schemas.weights import Weights, WeightsSourceList
from paretofit.api.schemas.workers import WorkerList
from paretofit.client.datasets import Dataset
from paretofit.client.fronts import DatasetFront, Front
from paretofit.client.point import Point, PointDetail
from paretofit.client.search import Search, SearchDetail
from paretofit.client.submission import SearchFields
from paretofit.core.settings import Settings

MODELS: dict[str, type[BaseModel] | None] = {
    "create_dataset": Dataset,
    "list_datasets": Page[Dataset],
    "get_dataset": Dataset,
    "upload_dataset": Dataset,
    "delete_dataset": None,
    "create_weights": Weights,
    "list_weights": Page[Weights],
    "list_weights_sources": WeightsSourceList,
    "get_weights": Weights,
    "upload_weights": Weights,
    "delete_weights": None,
    "create_search": SearchDetail,
    "estimate_search": Estimate,
    "list_searches": Page[Search],
    "get_search": SearchDetail,
    "cancel_search": SearchDetail,
    "pause_search": SearchDetail,
    "resume_search": SearchDetail,
    "clone_search": SearchDetail,
    "change_search": SearchDetail,
    "delete_search": None,
    "list_trials": Page[Trial],
    "get_front": Front,
    "get_dataset_front": DatasetFront,
    "select_point": Point,
    "get_trial": TrialDetail,
    "get_logs": Page[LogLine],
    "get_metrics": Curves,
    "get_events": Page[Event],
    "get_point": PointDetail,
    "create_export": Export,
    "list_exports": ExportList,
    "get_export": Export,
    "get_artifact": Artifact,
    "list_methods": MethodList,
    "list_families": FamilyList,
    "list_workers": WorkerList,
    "list_devices": DeviceList,
    "get_caller": Caller,
    "create_api_key": IssuedApiKey,
    "list_api_keys": Page[ApiKey],
    "rotate_api_key": IssuedApiKey,
    "revoke_api_key": None,
    "get_readiness": Readiness,
    # Text, bytes and schemas have no model.
    "get_model_card": None,
    "download_artifact": None,
    "download_weights": None,
    "get_method_schema": None,
    "export_study": None,
}
"""The model of the response to each operation."""

NOT_FOR_CLIENTS = {
    # For supervisors.
    *("get_health", "get_metrics_page"),
    # For browsers.
    *("sign_in", "sign_out"),
    # For operators.
    *("list_tenants", "set_tenant_quota", "get_usage", "list_audit_entries", "get_api_key"),
    *("create_webhook", "list_webhooks", "get_webhook", "change_webhook", "delete_webhook", "list_deliveries"),
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home: Path = tmp_path_factory.mktemp("home")
    # The application connects to nothing before the first request.
    settings = Settings(home=home, database_url="postgresql://localhost/none", redis_url="redis://localhost/0")
    return create_app(settings).openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    }


def test_client_covers_every_operation(operations: dict[str, Any]) -> None:
    assert set(operations) - NOT_FOR_CLIENTS == set(MODELS)


@pytest.mark.parametrize("operation", [name for name, kind in MODELS.items() if kind is not None])
def test_responses_match_the_models_of_the_client(
    document: dict[str, Any], operations: dict[str, Any], operation: str
) -> None:
    kind = MODELS[operation]
    assert kind is not None
    responses = operations[operation]["responses"]
    [served] = [responses[status]["content"]["application/json"]["schema"] for status in responses if status in SUCCESS]
    read = kind.model_json_schema(mode="serialization", by_alias=True)
    assert shape(read, read.get("$defs", {})) == shape(served, document["components"]["schemas"])


SUCCESS = {"200", "201", "202"}


def test_search_fields_match_the_schema(document: dict[str, Any]) -> None:
    served = document["components"]["schemas"]["SearchSpec"]["properties"]
    assert set(get_type_hints(SearchFields)) == set(served)


def test_types_of_search_fields_match_the_schema(document: dict[str, Any]) -> None:
    kinds = {"string": "string", "integer": "integer", "array": "array", "object": "object", "$ref": "object"}
    served = document["components"]["schemas"]["SearchSpec"]["properties"]
    offered = TypeAdapter(SearchFields).json_schema()["properties"]
    for name, field in offered.items():
        expected = served[name].get("type") or ("object" if {"$ref", "oneOf"} & set(served[name]) else None)
        assert kinds[field["type"]] == expected, name


def shape(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with resolved references and without titles and descriptions."""
    if isinstance(schema, list):
        return [shape(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return shape(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    ignored = {"title", "description", "$defs"}
    resolved: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            resolved[name] = {field: shape(each, definitions) for field, each in value.items()}
        elif name == "required":
            resolved[name] = sorted(value)
        elif name not in ignored:
            resolved[name] = shape(value, definitions)
    return resolved
