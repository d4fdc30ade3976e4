"""The service against its own OpenAPI document: valid and nearly valid requests never cause an internal error, and
every response is documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine, select

from paretofit.db import webhooks
from paretofit.db.engine import transaction
from paretofit.db.tables import PointRow
from tests.api import rows
from tests.api.fuzzing import fuzz_settings
from tests.api.keys import BOOTSTRAP, KeyedApi
from tests.api.test_exports import RECORD
from tests.db import rows as workers

EXAMPLES = 12
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def ids(keyed: KeyedApi) -> dict[str, list[str]]:
    """Existing ids by the name of the path parameter."""
    engine = keyed.engine
    dataset = rows.ready_dataset(engine)
    searches = [rows.search(engine, dataset), _finished_search(engine, dataset)]
    trials = [rows.trial(engine, search) for search in searches]
    points = [
        rows.point(engine, search, trial, "k", macs=1e6, selection_top1=0.5)
        for search, trial in zip(searches, trials, strict=True)
    ]
    with transaction(engine) as session:
        for row in session.scalars(select(PointRow)):
            row.record = RECORD
        hook = webhooks.insert(
            session, "default", url="https://a.example/", events=["search.failed"], secret="whsec_AA"
        )
    return {
        "dataset_id": [dataset, rows.ready_dataset(engine, state="uploading", manifest=None, profile=None)],
        "weights_id": [workers.add_weights(engine), workers.add_weights(engine, state="uploading")],
        "search_id": searches,
        "trial_id": trials,
        "point_id": points,
        "webhook_id": [hook.id],
        "kind": ["mutualnet"],
        "key_id": [keyed.issued(["read"])["id"]],
        "tenant_id": ["acme"],
    }


def _finished_search(engine: Engine, dataset: str) -> str:
    search = rows.search(engine, dataset)
    rows.set_search(engine, search, state="succeeded", stop_reason="completed")
    return search


def _operations(keyed: KeyedApi) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{keyed.api.http.base_url}/openapi.json".replace("//openapi", "/openapi"))
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        yield result.ok()


@pytest.mark.timeout(300)
@pytest.mark.integration
def test_service_conforms_to_its_document(
    keyed: KeyedApi, ids: dict[str, list[str]], subtests: pytest.Subtests
) -> None:
    seen = 0
    for operation in _operations(keyed):
        with subtests.test(operation.label):
            _explore(operation, ids)
        seen += 1
    assert seen >= 50


def _explore(operation: Any, ids: dict[str, list[str]]) -> None:
    known = sorted(name for name in ids if f"{{{name}}}" in operation.path)

    cases = operation.as_strategy()
    if _can_be_invalid(operation):
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @fuzz_settings(EXAMPLES)
    @given(case=cases, pick=st.integers(0, 3))
    def explore(case: Any, pick: int) -> None:
        for name in known:
            if pick < 3:
                case.path_parameters[name] = ids[name][pick % len(ids[name])]
        case.call_and_validate(
            headers={"Authorization": f"Bearer {BOOTSTRAP}"}, checks=CHECKS, timeout=20, allow_redirects=False
        )

    explore()


def _can_be_invalid(operation: Any) -> bool:
    """Whether a request can violate the document; paths cannot, because they accept any text."""
    return bool(operation.body) or bool(operation.query)


def test_operations_have_a_summary_and_a_description(http: httpx.Client) -> None:
    operations = [each for path in http.get("/openapi.json").json()["paths"].values() for each in path.values()]
    assert {each["operationId"]: each["summary"] for each in operations}["list_api_keys"] == "List API keys"
    assert [each["operationId"] for each in operations if not each.get("description", "").strip()] == []
