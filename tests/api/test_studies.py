"""A search as an Optuna study, read back by Optuna from the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Engine

from paretofit.api.fronts import Found
from paretofit.api.studies import journal
from paretofit.db.points import FoundPoint
from paretofit.db.tables import PointRow, SearchRow, TrialRow
from tests.api import rows

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONFIGS: dict[str, dict[str, float | int | str]] = {
    "small": {"width": 1, "resolution": 24, "kind": "plain", "budget": 5},
    "large": {"width": 0.5, "resolution": 32, "kind": "wide", "budget": "none"},
    "beyond": {"width": 0.75, "resolution": 32, "kind": "plain"},
    "unmeasured": {"width": 0.25, "resolution": 28, "kind": "plain"},
}
METRICS: dict[str, dict[str, float]] = {
    "small": {"selection_top1": 0.7, "macs": 1e5, "top1": 0.6},
    "large": {"selection_top1": 0.8, "macs": 9e5, "top1": 0.7},
    "beyond": {"selection_top1": 0.9, "macs": 2e6},
    "unmeasured": {"macs": 1e4},
}


def load(content: str, folder: Path) -> optuna.Study:
    (folder / "study.log").write_text(content)
    [study] = (storage := JournalStorage(JournalFileBackend(str(folder / "study.log")))).get_all_studies()
    return optuna.load_study(study_name=study.study_name, storage=storage)


def trial(number: int, state: str) -> TrialRow:
    started = None if state == "queued" else NOW
    finished = NOW + timedelta(hours=1) if state not in {"queued", "running"} else None
    error = {"code": "oom"} if state == "failed" else None
    return TrialRow(
        id=f"trl_{number}",
        number=number,
        state=state,
        params={"stage": "train"},
        created_at=NOW,
        started_at=started,
        finished_at=finished,
        error=error,
    )


def point(key: str, role: str = "candidate") -> FoundPoint:
    created = NOW + timedelta(minutes=30)
    row = PointRow(id=f"pt_{key}", trial_id="trl_1", key=key, role=role, metrics=METRICS[key], created_at=created)
    return FoundPoint(row, CONFIGS[key], [32, 32], None)


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    states = ("completed", "completed", "failed", "pruned", "infeasible", "cancelled", "running", "queued")
    trials = [trial(number, state) for number, state in enumerate(states)]
    spec = {
        "objectives": [{"metric": "macs"}, {"metric": "selection_top1"}],
        "constraints": [{"metric": "macs", "value": 1e6}],
    }
    row = SearchRow(id="srch_1", name="größer", method="mutualnet", state="running", stop_reason=None, spec=spec)
    found = Found([*(point(key) for key in CONFIGS), point("large", "baseline")], spec)
    return load("".join(journal(row, found, trials)), tmp_path)


def test_study_has_the_objectives_and_attributes_of_its_search(study: optuna.Study) -> None:
    assert study.study_name == "größer"
    assert study.directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
    assert study.metric_names == ["macs", "selection_top1"]
    assert study.user_attrs["search_id"] == "srch_1"
    assert [baseline["key"] for baseline in study.user_attrs["baselines"]] == ["large"]


def test_candidates_are_trials_with_their_parameters_values_and_attributes(study: optuna.Study) -> None:
    trials = {trial.user_attrs["key"]: trial for trial in study.trials if "key" in trial.user_attrs}
    assert {key: trial.params for key, trial in trials.items()} == CONFIGS
    assert {key: trial.state for key, trial in trials.items()} == {
        "small": TrialState.COMPLETE,
        "large": TrialState.COMPLETE,
        "beyond": TrialState.COMPLETE,
        "unmeasured": TrialState.PRUNED,
    }
    assert trials["small"].values == [1e5, 0.7]
    assert trials["small"].user_attrs["point_id"] == "pt_small"
    assert trials["small"].user_attrs["top1"] == 0.6
    assert trials["small"].duration == timedelta(minutes=30)
    assert trials["large"].distributions == {
        "width": FloatDistribution(0.25, 1),
        "resolution": IntDistribution(24, 32),
        "kind": CategoricalDistribution(("plain", "wide")),
        "budget": CategoricalDistribution((5, "none")),
    }


def test_best_trials_are_the_feasible_front(study: optuna.Study) -> None:
    assert {trial.user_attrs["key"] for trial in study.best_trials} == {"small", "large"}
    assert [trial.user_attrs["feasible"] for trial in study.trials[:4]].count(False) == 1


def test_trials_without_points_keep_their_states(study: optuna.Study) -> None:
    others = {trial.user_attrs["state"]: trial for trial in study.trials if "key" not in trial.user_attrs}
    assert {state: trial.state for state, trial in others.items()} == {
        "failed": TrialState.FAIL,
        "pruned": TrialState.PRUNED,
        "infeasible": TrialState.PRUNED,
        "cancelled": TrialState.FAIL,
        "running": TrialState.RUNNING,
        "queued": TrialState.WAITING,
    }
    assert others["failed"].user_attrs["error"] == {"code": "oom"}


def test_stored_search_is_served_as_a_study(http: httpx.Client, stored: Engine, tmp_path: Path) -> None:
    search_id = rows.search(stored, rows.ready_dataset(stored))
    trial_id = rows.trial(stored, search_id)
    rows.point(stored, search_id, trial_id, "small", macs=1e5, selection_top1=0.5)
    response = http.get(f"/v1/searches/{search_id}/study")
    assert response.status_code == 200
    [trial] = load(response.text, tmp_path).trials
    assert (trial.values, trial.params) == ([0.5, 1e5], {"width": 0.5})
    again = http.get(f"/v1/searches/{search_id}/study", headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304
    assert http.get("/v1/searches/srch_0/study").status_code == 404


def test_search_without_points_is_an_empty_study(http: httpx.Client, stored: Engine, tmp_path: Path) -> None:
    search_id = rows.search(stored, rows.ready_dataset(stored))
    assert load(http.get(f"/v1/searches/{search_id}/study").text, tmp_path).trials == []
