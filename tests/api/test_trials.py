"""Trials over HTTP: attempts, curves, logs."""

from __future__ import annotations

import math

import httpx
import pytest
from sqlalchemy import Engine

from paretofit.api.schemas.trials import Curve, Curves, TrialDetail
from paretofit.db.engine import transaction
from paretofit.db.tables import AttemptRow, LogRow, MetricRow
from tests.api import rows

STEPS = 5000
SPIKES = {1234: 100.0, 4321: -100.0}


@pytest.fixture(scope="module")
def search_id(stored: Engine) -> str:
    return rows.search(stored, rows.ready_dataset(stored))


@pytest.fixture(scope="module")
def trial_id(stored: Engine, search_id: str) -> str:
    """A trial with a long curve, a short one and 1,200 lines of log."""
    trial_id = rows.trial(stored, search_id, 0, outputs={"a": 1})
    with transaction(stored) as session:
        session.add_all(
            MetricRow(trial_id=trial_id, name="loss", step=step, value=SPIKES.get(step, math.sin(step / 100)))
            for step in range(STEPS)
        )
        session.add_all(
            MetricRow(trial_id=trial_id, name="accuracy", step=step, value=value)
            for step, value in enumerate([0.1, math.nan, math.inf])
        )
        session.add_all(
            LogRow(trial_id=trial_id, epoch=1, stream="stderr", line=f"line {number}") for number in range(1200)
        )
        session.add(AttemptRow(trial_id=trial_id, epoch=1, worker="w1", outcome="lost", error={"code": "lost"}))
        session.add(AttemptRow(trial_id=trial_id, epoch=2, worker="w2", device="cpu"))
    rows.artifact(stored, search_id, trial_id, name="supernet", sha256="2" * 64, size=5)
    return trial_id


def curves(http: httpx.Client, trial_id: str, **params: str | int) -> list[Curve]:
    response = http.get(f"/v1/trials/{trial_id}/metrics", params=params)
    assert response.status_code == 200, response.text
    return Curves.model_validate_json(response.content).curves


def test_trial_lists_its_attempts_and_files(http: httpx.Client, trial_id: str) -> None:
    trial = TrialDetail.model_validate_json(http.get(f"/v1/trials/{trial_id}").content)
    assert (trial.state, trial.outputs) == ("completed", {"a": 1})
    assert [(attempt.epoch, attempt.worker, attempt.outcome) for attempt in trial.attempts] == [
        (1, "w1", "lost"),
        (2, "w2", None),
    ]
    assert [artifact.name for artifact in trial.artifacts] == ["supernet"]


def test_trials_are_listed_by_number(http: httpx.Client, stored: Engine) -> None:
    search_id = rows.search(stored, rows.ready_dataset(stored))
    for number in (2, 0, 1, 3):
        rows.trial(stored, search_id, number, state="failed" if number == 2 else "completed")
    url = f"/v1/searches/{search_id}/trials"
    first = http.get(url, params={"limit": 3}).json()
    assert ([trial["number"] for trial in first["data"]], first["has_more"]) == ([0, 1, 2], True)
    last = http.get(url, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert ([trial["number"] for trial in last["data"]], last["has_more"], last["next_cursor"]) == ([3], False, None)
    assert [trial["number"] for trial in http.get(url, params={"state": "failed"}).json()["data"]] == [2]


def test_short_curve_is_complete(http: httpx.Client, trial_id: str) -> None:
    [curve] = curves(http, trial_id, name="accuracy")
    assert [(point.step, point.value) for point in curve.points] == [(0, 0.1), (1, None), (2, None)]
    assert curve.total == 3
    assert [curve.name for curve in curves(http, trial_id)] == ["accuracy", "loss"]
    assert curves(http, trial_id, name="nothing")[0].points == []


@pytest.mark.parametrize("max_points", [4, 5, 100, 999, 4999, 5000, 10_000])
def test_downsampled_curve_keeps_its_ends_and_spikes(http: httpx.Client, trial_id: str, max_points: int) -> None:
    [curve] = curves(http, trial_id, name="loss", max_points=max_points)
    steps = [point.step for point in curve.points]
    assert curve.total == STEPS
    assert len(steps) <= max_points
    assert len(steps) >= min(STEPS, max_points * 0.6)
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, STEPS - 1)
    assert set(SPIKES) <= set(steps)
    for point in curve.points:
        assert point.value == SPIKES.get(point.step, math.sin(point.step / 100))


def test_curve_continues_from_a_step(http: httpx.Client, trial_id: str) -> None:
    [curve] = curves(http, trial_id, name="loss", since_step=4989)
    assert [point.step for point in curve.points] == list(range(4990, 5000))
    assert curve.total == 10


def test_logs_are_paginated_and_can_be_followed(http: httpx.Client, stored: Engine, trial_id: str) -> None:
    url = f"/v1/trials/{trial_id}/logs"
    lines: list[str] = []
    params: dict[str, str] = {}
    while True:
        page = http.get(url, params=params).json()
        lines += [line["line"] for line in page["data"]]
        params = {"cursor": page["next_cursor"]}
        if not page["has_more"]:
            break
    assert lines == [f"line {number}" for number in range(1200)]
    nothing = http.get(url, params=params).json()
    assert (nothing["data"], nothing["next_cursor"]) == ([], params["cursor"])
    with transaction(stored) as session:
        session.add(LogRow(trial_id=trial_id, epoch=2, stream="stdout", line="one more"))
    [line] = http.get(url, params=params).json()["data"]
    assert (line["line"], line["epoch"], line["stream"]) == ("one more", 2, "stdout")
