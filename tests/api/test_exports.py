"""Exports over HTTP: requested, read, rejected; model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from sqlalchemy import Engine, select, update

from paretofit.api.schemas import exports as schemas
from paretofit.db import exports, jobs, outbox, states
from paretofit.db.blobs import Blob
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import ExportRow, OutboxRow, PointRow
from paretofit.models.families.registry import architecture
from paretofit.search.contracts.point import ALL_FORMATS
from paretofit.search.export.formats import Precision
from tests.api import rows
from tests.api.process import running
from tests.api.test_problems import pointers, problem

RECORD: dict[str, Any] = {
    "key": "w0.5-r32",
    "architecture": architecture("fd_mobilenet", width=0.25, nominal=32, classes=4, channels=1).to_json(),
    "input_size": [32, 32],
    "classes": ["bag", "boot", "coat", "dress"],
    "config": {"width": 0.5, "resolution": 32},
    "metrics": {"selection_top1": 0.8, "macs": 2e6},
    "preprocessing": {
        "crop": [32, 32],
        "mean": [0.3],
        "std": [0.3],
        "resize": "bilinear",
        "align_corners": True,
        "antialias": False,
    },
    "evaluation": {"device": "cpu", "batch_size": 8},
    "provenance": {"torch": "2.13.0"},
    "role": "candidate",
    "supernet": "supernet",
}


@pytest.fixture
def point_id(stored: Engine) -> str:
    """A point whose weights are in the supernet of its trial."""
    search_id = rows.search(stored, rows.ready_dataset(stored))
    trial_id = rows.trial(stored, search_id)
    rows.artifact(stored, search_id, trial_id, name="supernet", sha256="a" * 64, size=1)
    identifier = rows.point(stored, search_id, trial_id, RECORD["key"], **RECORD["metrics"])
    with transaction(stored) as session:
        session.execute(update(PointRow).where(PointRow.id == identifier).values(record=RECORD))
    return identifier


def request_export(http: httpx.Client, point_id: str, **form: Any) -> httpx.Response:
    return http.post(f"/v1/points/{point_id}/exports", json={"format": "onnx", **form})


def test_schemas_list_every_format_precision_and_state() -> None:
    assert get_args(schemas.Format) == ALL_FORMATS
    assert get_args(schemas.Precision) == get_args(Precision)
    assert set(get_args(schemas.ExportState)) == set(states.EXPORT)


def test_export_goes_from_request_to_artifact(http: httpx.Client, stored: Engine, point_id: str) -> None:
    response = request_export(http, point_id)
    assert response.status_code == 202, response.text
    export = response.json()
    assert response.headers["Location"] == f"/v1/exports/{export['id']}"
    assert response.headers["Retry-After"]
    assert (export["state"], export["artifact"], export["input_shape"]) == ("queued", None, [1, 32, 32])
    with transaction(stored) as session:
        tasks = session.scalars(select(OutboxRow.task).where(OutboxRow.subject == export["id"])).all()
    assert tasks == [outbox.EXPORT]
    for path in (f"/v1/artifacts/{export['id']}", f"/v1/artifacts/{export['id']}/content"):
        waiting = http.get(path)
        assert waiting.headers["Retry-After"]
        problem(waiting, 409, "artifact_not_ready")

    parity = {"max_abs_diff": 1e-6, "max_abs_logit": 2.0, "tolerance": 2e-4, "batches": [1, 2]}
    with transaction(stored) as session:
        job = exports.claim(session, export["id"], seconds=60)
        assert job is not None
        blob = Blob("d" * 64, 9)
        exports.mark_ready(session, job, name="w0.5-r32.onnx", blob=blob, media_type="x/onnx", parity=parity)
    ready = http.get(f"/v1/exports/{export['id']}").json()
    assert (ready["state"], ready["parity"]) == ("ready", parity)
    assert ready["artifact"] == http.get(f"/v1/artifacts/{export['id']}").json()
    assert ready["artifact"]["name"] in ready["loading"]
    again = request_export(http, point_id, input_shape=[1, 32, 32])
    assert again.json() == ready
    assert "Retry-After" not in again.headers
    assert http.get(f"/v1/points/{point_id}/exports").json() == {"data": [ready]}
    assert "| w0.5-r32.onnx | 1e-06 |" in http.get(f"/v1/points/{point_id}/card").text


def test_failed_export_has_a_typed_error_and_can_be_retried(http: httpx.Client, stored: Engine, point_id: str) -> None:
    export_id = request_export(http, point_id).json()["id"]
    error = {"code": "parity", "detail": "its logits differ", "parity": {"max_abs_diff": 1.0}}
    with transaction(stored) as session:
        job = exports.claim(session, export_id, seconds=60)
        assert job is not None
        jobs.fail(session, job, error)
    failed = http.get(f"/v1/exports/{export_id}").json()
    assert (failed["state"], failed["error"], failed["artifact"], failed["parity"]) == ("failed", error, None, None)
    refused = http.get(f"/v1/artifacts/{export_id}/content")
    problem(refused, 409, "artifact_not_ready")
    assert "Retry-After" not in refused.headers
    assert request_export(http, point_id).json()["state"] == "queued"


def test_idempotency_key_creates_one_export(http: httpx.Client, point_id: str) -> None:
    path, headers = f"/v1/points/{point_id}/exports", {"Idempotency-Key": new_id("key")}
    first = http.post(path, json={"format": "ncnn"}, headers=headers)
    assert http.post(path, json={"format": "ncnn"}, headers=headers).content == first.content
    problem(http.post(path, json={"format": "onnx"}, headers=headers), 422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("form", "pointer", "message"),
    [
        ({"format": "tflite"}, "/format", "onnx"),
        ({"precision": "int4"}, "/precision", "float16"),
        ({"format": "torch_export", "precision": "float16"}, "/precision", "torch_export does not support float16"),
        ({"input_shape": [3, 32, 32]}, "/input_shape/0", "network takes 1"),
        ({"input_shape": [1, 5000, 32]}, "/input_shape/1", "1024"),
        ({"input_shape": [1, 32, 0]}, "/input_shape/2", "1024"),
    ],
)
def test_unsupported_exports_are_rejected(
    http: httpx.Client, point_id: str, form: dict[str, Any], pointer: str, message: str
) -> None:
    document = problem(request_export(http, point_id, **form), 422, "invalid")
    assert pointers(document) == [pointer]
    assert message in document["errors"][0]["detail"]


def test_format_that_the_method_does_not_support_is_rejected(
    tmp_path: Path, engine: Engine, database_url: str, redis_url: str
) -> None:
    search_id = rows.search(engine, rows.ready_dataset(engine))
    rows.set_search(engine, search_id, method="steps")
    point_id = rows.point(engine, search_id, rows.trial(engine, search_id), "net")
    with running(tmp_path, database_url, redis_url, PARETOFIT_METHODS="tests.methods.steps") as api:
        document = problem(request_export(api.http, point_id, format="ncnn"), 422, "invalid")
        assert document["detail"] == "steps does not support ncnn: use one of safetensors, onnx"
        assert pointers(document) == ["/format"]
        offered = api.http.get(f"/v1/points/{point_id}").json()["exports"]
    assert [form["format"] for form in offered] == ["safetensors", "onnx"]


def test_point_without_weights_cannot_be_exported(http: httpx.Client, stored: Engine) -> None:
    search_id = rows.search(stored, rows.ready_dataset(stored))
    point_id = rows.point(stored, search_id, rows.trial(stored, search_id), "net")
    problem(request_export(http, point_id), 409, "no_weights")


def test_point_documents_how_to_load_each_format(http: httpx.Client, point_id: str) -> None:
    offered = http.get(f"/v1/points/{point_id}").json()["exports"]
    assert [form["format"] for form in offered] == list(ALL_FORMATS)
    for form in offered:
        assert len(form["loading"].splitlines()) == 2
        assert "w0.5-r32" in form["loading"]


def test_model_card_is_a_markdown_file(http: httpx.Client, point_id: str) -> None:
    response = http.get(f"/v1/points/{point_id}/card")
    assert response.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert 'filename="w0.5-r32.md"' in response.headers["Content-Disposition"]
    assert response.text.startswith("# fd_mobilenet: w0.5-r32\n")


def test_exports_of_other_tenants_are_not_found(http: httpx.Client, stored: Engine, point_id: str) -> None:
    export_id = request_export(http, point_id).json()["id"]
    with transaction(stored) as session:
        session.execute(update(ExportRow).where(ExportRow.id == export_id).values(tenant_id="other"))
        session.execute(update(PointRow).where(PointRow.id == point_id).values(tenant_id="other"))
    for path in (f"exports/{export_id}", f"points/{point_id}/exports", f"points/{point_id}/card"):
        problem(http.get(f"/v1/{path}"), 404, "not_found")
    problem(http.get(f"/v1/artifacts/{export_id}/content"), 404, "not_found")
    problem(request_export(http, point_id), 404, "not_found")
