"""A search whose best network does not beat the majority class succeeds with a warning, wherever it is read."""

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
    """A search that has found these points and is not over."""
    dataset = rows.ready_dataset(stored, report={"class_counts": rows.COUNTS} if counted else {})
    search_id = rows.search(stored, dataset, **changes)
    trial = rows.trial(stored, search_id)
    for number, metrics in enumerate(points):
        rows.point(stored, search_id, trial, f"k{number}", **{"macs": 1e6 * (number + 1), **metrics})
    return search_id


def read(http: httpx.Client, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def codes(document: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in document["warnings"]]


@pytest.mark.parametrize(
    ("points", "warned"),
    [
        ([{"selection_top1": 0.4, "top1": 0.35}], True),
        ([{"selection_top1": 0.9, "top1": THRESHOLD - 1e-9}], True),
        ([{"selection_top1": 0.4, "top1": THRESHOLD + 1e-9}], False),
        # Nothing is chosen on the report split.
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
def test_a_warning_if_and_only_if_the_best_is_within_two_standard_errors(
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


def test_it_says_what_the_majority_class_reaches(http: httpx.Client, stored: Engine) -> None:
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
    for found in (document["front"], read(http, f"/v1/searches/{search_id}/front")):
        assert {name: found[name] for name in shares} == shares


def test_a_dataset_whose_classes_were_not_counted_has_no_baseline(http: httpx.Client, stored: Engine) -> None:
    search_id = search(stored, {"selection_top1": 0.1, "top1": 0.1}, counted=False)
    rows.end(stored, search_id)
    document = read(http, f"/v1/searches/{search_id}")
    assert (document["warnings"], document["front"]["majority_top1"]) == ([], None)


def test_a_copy_of_the_front_without_the_warning_is_out_of_date(http: httpx.Client, stored: Engine) -> None:
    search_id = search(stored, {"selection_top1": 0.4, "top1": 0.36})
    url = f"/v1/searches/{search_id}/front"
    before = http.get(url).headers["ETag"]
    rows.end(stored, search_id)
    answer = http.get(url, headers={"If-None-Match": before})
    assert answer.status_code == 200
    assert codes(answer.json()) == ["at_chance"]


def test_a_cancelled_search_has_it_too(http: httpx.Client, stored: Engine) -> None:
    search_id = search(stored, {"selection_top1": 0.4, "top1": 0.36})
    answer = http.post(f"/v1/searches/{search_id}/cancel")
    assert (answer.json()["state"], codes(answer.json())) == ("cancelled", ["at_chance"])


def test_webhooks_are_notified(stored: Engine, http: httpx.Client) -> None:
    search_id = search(stored, {"selection_top1": 0.4, "top1": 0.36})
    with transaction(stored) as session:
        hook = webhooks.insert(session, "default", url="https://a.example/", events=["search.succeeded"], secret="s")
        hook_id = hook.id
    rows.end(stored, search_id)
    with transaction(stored) as session:
        [body] = session.scalars(select(DeliveryRow.body).where(DeliveryRow.webhook_id == hook_id))
        webhooks.delete(session, "default", hook_id)
    assert codes(json.loads(body)["data"]) == ["at_chance"]


def test_the_list_asks_no_more_for_more_searches(stored: Engine) -> None:
    for _ in range(5):
        rows.end(stored, search(stored, {"selection_top1": 0.4, "top1": 0.36}))
    asked: list[str] = []

    def count(*arguments: Any) -> None:
        asked.append(arguments[2])

    event.listen(stored, "before_cursor_execute", count)
    try:
        for limit in (1, 5):
            asked.clear()
            with transaction(stored) as session:
                found = searches.page(session, "default", state=None, method=None, label=None, after=None, limit=limit)
                tallies = searches.tallies(session, [row.id for row in found])
                shown = [documents.listed(row, tallies[row.id]) for row in found]
            assert [codes(each.model_dump()) for each in shown] == [["at_chance"]] * limit
            assert len(asked) == 2
    finally:
        event.remove(stored, "before_cursor_execute", count)
