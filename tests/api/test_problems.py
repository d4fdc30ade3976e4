"""Every error is a problem document with the invalid fields and a remedy."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import jsonschema
import pytest
from sqlalchemy import Engine, delete

from paretofit.db.engine import transaction
from paretofit.db.tables import DatasetRow
from tests.api import rows
from tests.api.process import Api


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is this problem. Returns its document."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["code"] == code
    assert document["type"] == f"urn:paretofit:problem:{code}"
    assert document["status"] == status
    assert document["detail"]
    assert document["request_id"] == response.headers["X-Request-Id"]
    return document


def pointers(document: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in document["errors"]]


def test_unknown_route_is_not_found(http: httpx.Client) -> None:
    problem(http.get("/v1/nothing"), 404, "not_found")


def test_unsupported_method_is_not_allowed(http: httpx.Client) -> None:
    response = http.put("/v1/searches")
    assert "GET" in problem(response, 405, "method_not_allowed")["detail"]
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/datasets/x"),
        ("DELETE", "/v1/datasets/x"),
        ("PUT", "/v1/datasets/x/content"),
        ("GET", "/v1/searches/x"),
        ("DELETE", "/v1/searches/x"),
        ("POST", "/v1/searches/x/cancel"),
        ("GET", "/v1/searches/x/trials"),
        ("GET", "/v1/searches/x/events"),
        ("GET", "/v1/searches/x/front"),
        ("GET", "/v1/trials/x"),
        ("GET", "/v1/trials/x/logs"),
        ("GET", "/v1/trials/x/metrics"),
        ("GET", "/v1/points/x"),
        ("GET", "/v1/artifacts/x"),
        ("GET", "/v1/artifacts/x/content"),
        ("GET", "/v1/methods/x/schema"),
    ],
)
def test_unknown_id_is_not_found(http: httpx.Client, method: str, path: str) -> None:
    assert "'x'" in problem(http.request(method, path), 404, "not_found")["detail"]


def test_selection_from_an_unknown_search_is_not_found(http: httpx.Client) -> None:
    problem(http.post("/v1/searches/x/front/select", json={}), 404, "not_found")


def test_valid_request_id_of_the_client_is_kept(http: httpx.Client) -> None:
    assert http.get("/healthz", headers={"X-Request-Id": "abc-1.2"}).headers["X-Request-Id"] == "abc-1.2"
    assert len(http.get("/healthz", headers={"X-Request-Id": "a b\t<"}).headers["X-Request-Id"]) == 32


WIDTHS = {"kind": "mutualnet", "widths": {"min": "small"}}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": 3}, "/name"),
        ({"name": ""}, "/name"),
        ({"nonsense": 1}, "/nonsense"),
        ({"a/b~c": 1}, "/a~1b~0c"),
        ({"method": {"kind": "mutualnet", "epoch": 3}}, "/method/epoch"),
        ({"method": {"kind": "mutualnet", "epochs": "many"}}, "/method/epochs"),
        ({"method": WIDTHS}, "/method/widths/min"),
        ({"method": {"kind": "mutualnet", "widths": {"min": 1, "max": 0.5}}}, "/method/widths"),
        ({"method": {"kind": "mutualnet", "family": "alexnet"}}, "/method/family"),
        ({"method": {"kind": "mutualnet", "resolutions": [64]}}, "/method/resolutions"),
        ({"method": {"kind": "guess"}}, "/method/kind"),
        ({"method": {}}, "/method/kind"),
        ({"method": None}, "/method"),
        (
            {"constraints": [{"metric": "macs", "value": 1e9}, {"metric": "latency", "value": 1}]},
            "/constraints/1/metric",
        ),
        ({"constraints": [{"metric": "macs"}]}, "/constraints/0/value"),
        ({"limits": {"max_trials": 0}}, "/limits/max_trials"),
        ({"objectives": [{"metric": "macs"}, {"metric": "params"}]}, "/objectives"),
        ({"dataset_id": "ds_unknown"}, "/dataset_id"),
        ({"labels": {"team": 1}}, "/labels/team"),
        ({"seed": -1}, "/seed"),
    ],
)
def test_invalid_field_has_a_pointer(http: httpx.Client, stored: Engine, changes: dict[str, Any], pointer: str) -> None:
    body = rows.body(rows.ready_dataset(stored), **changes)
    for path in ("/v1/searches", "/v1/searches/estimate"):
        document = problem(http.post(path, json=body), 422, "invalid")
        assert pointers(document) == [pointer]
        assert document["errors"][0]["detail"]


def test_errors_that_follow_from_another_are_not_reported(http: httpx.Client, stored: Engine) -> None:
    body = rows.body(rows.ready_dataset(stored), objectives=["macs"])
    document = problem(http.post("/v1/searches", json=body), 422, "invalid")
    assert [(each["pointer"], each["detail"]) for each in document["errors"]] == [
        ("/objectives/0", "must be an object of fields, {...}, not 'macs'")
    ]


def test_missing_fields_have_pointers(http: httpx.Client) -> None:
    document = problem(http.post("/v1/searches", json={}), 422, "invalid")
    assert pointers(document) == ["/name", "/dataset_id", "/method"]


@pytest.mark.parametrize(
    ("content", "kind"), [(b'{"name": ', "application/json"), (b"[]", "application/json"), (b"{}", "text/plain")]
)
def test_body_must_be_a_json_object(http: httpx.Client, content: bytes, kind: str) -> None:
    document = problem(http.post("/v1/searches", content=content, headers={"Content-Type": kind}), 422, "invalid")
    assert pointers(document) == [""]


@pytest.mark.parametrize("text", ["a\\u0000b", "a\\ud800b"])
def test_text_that_cannot_be_stored_is_rejected(http: httpx.Client, text: str) -> None:
    content = f'{{"name": "{text}", "source": {{"kind": "upload"}}}}'
    headers = {"Content-Type": "application/json"}
    document = problem(http.post("/v1/datasets", content=content, headers=headers), 422, "invalid")
    assert pointers(document) == ["/name"]
    problem(http.get("/v1/searches/%00"), 404, "not_found")


def test_nul_character_is_rejected_at_its_field(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    for changes, pointer in (
        ({"name": "a\0b"}, "/name"),
        ({"dataset_id": "\0"}, "/dataset_id"),
        ({"labels": {"owner": "\0"}}, "/labels/owner"),
        ({"labels": {"a\0": "b"}}, "/labels/a\0"),
    ):
        document = problem(http.post("/v1/searches", json=rows.body(dataset) | changes), 422, "invalid")
        assert pointers(document) == [pointer]
        assert "PostgreSQL" not in json.dumps(document)


def test_nonfinite_numbers_are_rejected(http: httpx.Client, stored: Engine) -> None:
    body = json.dumps(rows.body(rows.ready_dataset(stored), constraints=[{"metric": "macs", "value": 12345}]))
    headers = {"Content-Type": "application/json"}
    for number in ("1e999", "NaN", "-Infinity"):
        response = http.post("/v1/searches", content=body.replace("12345", number), headers=headers)
        problem(response, 422, "invalid")


def test_internal_error_exposes_only_its_request_id(api: Api, stored: Engine) -> None:
    dataset_id = rows.ready_dataset(stored, profile={"secret": "s3cret"})
    response = api.http.post("/v1/searches", json=rows.body(dataset_id))
    document = problem(response, 500, "internal")
    assert "s3cret" not in response.text
    deadline = time.monotonic() + 10
    entries: list[dict[str, Any]] = []
    while {line["logger"] for line in entries} != {"paretofit.api.request", "uvicorn.error"}:
        assert time.monotonic() < deadline, entries
        written = api.log.read_text()
        lines = [json.loads(line) for line in written[: written.rfind("\n") + 1].splitlines()]
        entries = [line for line in lines if line.get("request_id") == document["request_id"]]
    [request] = [line for line in entries if line["logger"] == "paretofit.api.request"]
    assert (request["method"], request["path"], request["status"]) == ("POST", "/v1/searches", 500)
    assert any("ValidationError" in json.dumps(line.get("exception", "")) for line in entries)
    # Other tests list all datasets.
    with transaction(stored) as session:
        session.execute(delete(DatasetRow).where(DatasetRow.id == dataset_id))


def test_oversize_json_body_is_rejected(http: httpx.Client) -> None:
    problem(http.post("/v1/searches", json={"name": "x" * 2_000_000}), 413, "too_large")
    problem(http.put("/v1/tenants/large", json={"name": "x" * 2_000_000}), 413, "too_large")


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/searches?limit=0", "?limit"),
        ("/v1/searches?limit=many", "?limit"),
        ("/v1/searches?cursor=zzz", "?cursor"),
        ("/v1/searches?cursor=bnVsbA==", "?cursor"),
        # A valid time and, as the id, half of a surrogate pair.
        ("/v1/searches?cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwiXHVkODAwIl0=", "?cursor"),
        ("/v1/searches?label=%00", "?label"),
        ("/v1/searches?method=a%00b", "?method"),
        ("/v1/searches?state=sleeping", "?state"),
        ("/v1/datasets?state=sleeping", "?state"),
    ],
)
def test_invalid_query_parameter_is_named(http: httpx.Client, path: str, pointer: str) -> None:
    assert pointers(problem(http.get(path), 422, "invalid")) == [pointer]


def test_unknown_builtin_dataset_is_rejected(http: httpx.Client) -> None:
    source = {"kind": "builtin", "name": "imagenet"}
    document = problem(http.post("/v1/datasets", json={"name": "d", "source": source}), 422, "invalid")
    assert pointers(document) == ["/source/name"]
    assert "fashion_mnist" in document["errors"][0]["detail"]


def test_every_route_documents_its_problems(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    assert all(operation["tags"] for operation in operations)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert (
                path in {"/healthz", "/readyz"}
                or "application/problem+json" in operation["responses"]["422"]["content"]
            )
    assert "HTTPValidationError" not in document["components"]["schemas"]
    references = set(_references(document))
    assert {name.rpartition("/")[2] for name in references} <= document["components"]["schemas"].keys()
    assert references
    sent = http.get("/v1/searches/x").json()
    jsonschema.validate(sent, {"$ref": "#/components/schemas/NotFoundError", "components": document["components"]})


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [reference for part in value.values() for reference in _references(part)]
    if isinstance(value, list):
        return [reference for part in value for reference in _references(part)]
    return []
