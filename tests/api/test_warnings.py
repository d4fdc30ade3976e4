"""A search whose best network does not beat the majority class succeeds with a warning in every document."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event, select

from paretofit.api import searches as documents
from paretofit.db import searches, webhooks
from paretofit.db.engine import transaction
from paretofit.db.tables import DeliveryRow
from tests.api import rows

THRESHOLD = 0.35 + 2 * math.sqrt(0.35 * 0.65 / 200)


def search(stored: Engine, *points: dict[str, Any], counted: bool = True, **changes: Any) -> str:
    """Add an unfinished search with these points."""
    dataset = rows.ready_dataset(stored, report={"class_counts": rows.COUNTS} if counted else {})
    search_id = rows.search(stored, dataset, **changes)
    trial = rows.trial(stored, search_id)
    for number, metrics in enumerate(points):
        rows.point(stored, search_id, trial, f"k{number}", **{"macs": 1e6 * (number + 1), **metrics})
    return search_id


def read(http: httpx.Client, path: str) -> Any:
    response = http.get(path)
    assert response.status_code == 200, response.text
    return response.json()


def codes(document: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in document["warnings"]]


@pytest.mark.parametrize(
    ("points", "warned"),
    [
        ([{"selection_top1": 0.4, "top1": 0.35}], True),
        ([{"selection_top1": 0.9, "top1": THRESHOLD - 1e-9}], True),
        ([{"selection_top1": 0.4, "top1": THRESHOLD + 1e-9}], False),
        # Points are never selected on the report split.
        ([{"selection_top1": 0.5, "top1": 0.35}, {"selection_top1": 0.4, "top1": 0.9}], True),
        ([{"selection_top1": 0.5, "top1": 0.9}, {"selection_top1": 0.4, "top1": 0.35}], False),
        # Measured on the selection split alone: 40 % and two standard errors of 4.9 %.
        ([{"selection_top1": 0.49}], True),
        ([{"selection_top1": 0.5}], False),
        ([{"selection_top1": 0.9, "top1": 0.9, "role": "baseline"}, {"selection_top1": 0.4, "top1": 0.4}], True),
        ([{"selection_top1": 0.9, "top1": 0.9, "macs": 1e9}, {"selection_top1": 0.4, "top1": 0.4}], True),
        ([{"macs": 1.0}], False),
        ([], False),
    ],
)
def test_search_warns_exactly_if_its_best_point_is_within_two_standard_errors(
    http: httpx.Client, stored: Engine, points: list[dict[str, Any]], warned: bool
) -> None:
    search_id = search(stored, *points, constraints=[{"metric": "macs", "value": 1e8}])
    assert read(http, f"/v1/searches/{search_id}")["warnings"] == []
    rows.end(stored, search_id)
    document = read(http, f"/v1/searches/{search_id}")
    assert document["state"] == "succeeded"
    assert codes(document) == (["at_chance"] if warned else [])
    [listed] = [each for each in read(http, "/v1/searches")["data"] if each["id"] == search_id]
    assert listed["warnings"] == document["warnings"]
    assert read(http, f"/v1/searches/{search_id}/front")["warnings"] == document["warnings"]
    last = read(http, f"/v1/searches/{search_id}/events")["data"][-1]
    assert (last["type"], last["data"]["warnings"]) == ("search.succeeded", document["warnings"])


def test_warning_states_the_accuracy_of_the_majority_class(http: httpx.Client, stored: Engine) -> None:
    search_id = search(stored, {"selection_top1": 0.4, "top1": 0.36})
    rows.end(stored, search_id)
    document = read(http, f"/v1/searches/{search_id}")
    [warning] = document["warnings"]
    assert warning["detail"].startswith(
        "The best network reaches 36.0 % on the report split; always answering 'boot' reaches 35.0 % (two standard "
        "errors: 6.7)."
    )
    assert "check the labels, lower `learning_rate`, or start from trained weights (`start`)" in warning["detail"]
    shares = {"majority_class": "boot", "majority_top1": 0.35, "majority_selection_top1": 0.4}
    for front in (document["front"], read(http, f"/v1/searches/{search_id}/front")):
        assert {name: front[name] for name in shares} == shares


def test_dataset_without_class_counts_has_no_baseline(http: httpx.Client, stored: Engine) -> None:
    search_id = search(stored, {"selection_top1": 0.1, "top1": 0.1}, counted=False)
    rows.end(stored, search_id)
    document = read(http, f"/v1/searches/{search_id}")
    assert (document["warnings"], document["front"]["majority_top1"]) == ([], None)


def test_warning_invalidates_cached_fronts(http: httpx.Client, stored: Engine) -> None:
    search_id = search(stored, {"selection_top1": 0.4, "top1": 0.36})
    url = f"/v1/searches/{search_id}/front"
    before = http.get(url).headers["ETag"]
    rows.end(stored, search_id)
    response = http.get(url, headers={"If-None-Match": before})
    assert response.status_code == 200
    assert codes(response.json()) == ["at_chance"]


def test_cancelled_search_has_the_warning(http: httpx.Client, stored: Engine) -> None:
    search_id = search(stored, {"selection_top1": 0.4, "top1": 0.36})
    response = http.post(f"/v1/searches/{search_id}/cancel")
    assert (response.json()["state"], codes(response.json())) == ("cancelled", ["at_chance"])


def test_webhooks_receive_the_warning(stored: Engine, http: httpx.Client) -> None:
    search_id = search(stored, {"selection_top1": 0.4, "top1": 0.36})
    with transaction(stored) as session:
        hook = webhooks.insert(session, "default", url="https://a.example/", events=["search.succeeded"], secret="s")
        hook_id = hook.id
    rows.end(stored, search_id)
    with transaction(stored) as session:
        [body] = session.scalars(select(DeliveryRow.body).where(DeliveryRow.webhook_id == hook_id))
        webhooks.delete(session, "default", hook_id)
    assert codes(json.loads(body)["data"]) == ["at_chance"]


def test_list_needs_a_constant_number_of_queries(stored: Engine) -> None:
    for _ in range(5):
        rows.end(stored, search(stored, {"selection_top1": 0.4, "top1": 0.36}))
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(stored, "before_cursor_execute", count)
    try:
        for limit in (1, 5):
            statements.clear()
            with transaction(stored) as session:
                page = searches.page(session, "default", state=None, method=None, label=None, after=None, limit=limit)
                tallies = searches.tallies(session, [row.id for row in page])
                listed = [documents.listed(row, tallies[row.id]) for row in page]
            assert [codes(each.model_dump()) for each in listed] == [["at_chance"]] * limit
            assert len(statements) == 2
    finally:
        event.remove(stored, "before_cursor_execute", count)
