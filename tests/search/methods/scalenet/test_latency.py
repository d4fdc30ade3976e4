"""Structures under a budget of milliseconds, measured during allocation and before their training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paretofit.models.families.structures import from_line
from paretofit.search.contracts.latency import read_table
from paretofit.search.contracts.plan import NewTrial
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.latency.stage import LATENCY_FILE
from paretofit.search.local import LocalSearch
from paretofit.search.local_folder import LocalSearchError, artifact_file
from paretofit.search.methods.scalenet import budget
from paretofit.search.methods.scalenet.params import ScaleNetParams
from paretofit.search.methods.scalenet.run import run
from tests.search.methods.scalenet.test_params import DATASET
from tests.search.methods.scalenet.test_run import METHOD, trial
from tests.search.recorder import Recorder

DEVICE = "torch-cpu-1t"
METRIC = f"latency_ms:{DEVICE}"
ACCURACY = {"metric": "selection_top1"}
LATENCY = {"metric": "latency_ms", "device": DEVICE}


def resolved(stripes: Path, budgets: list[float], **changes: Any) -> ResolvedSpec:
    small: dict[str, Any] = {"base_width": 0.25, "seed_ratio": 0.25, "epochs": 1, "ema_decay": None, "baselines": []}
    method = METHOD | small | {"budget_metric": "latency_ms", "budgets": budgets}
    submitted = {"name": "fast", "dataset_id": "local", "method": method, "objectives": [ACCURACY, LATENCY], **changes}
    return SearchSpec.model_validate(submitted).resolve(Dataset.open(stripes).profile)


def run_search(spec: ResolvedSpec, dataset: Path, folder: Path) -> LocalSearch:
    search = LocalSearch(spec, dataset, folder)
    search.run(lambda: Stop.NO, lambda trial, fraction: None)
    return search


@pytest.mark.integration
def test_structures_are_measured_and_points_have_latencies(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, [1e5])
    [point] = run_search(spec, stripes, tmp_path).points()
    assert (point.key, point.role) == ("latency_ms-100000", "candidate")
    # The budget is not binding.
    assert from_line(str(point.config["structure"]))[0] == spec.params(ScaleNetParams).space(spec.dataset).seed[0]
    trials = tmp_path / "trials"
    learned = read_table(artifact_file(trials / "2", LATENCY_FILE))
    assert learned.latencies.keys() == {point.key}
    assert point.metrics[METRIC] == learned.latencies[point.key].median_ms
    assert point.provenance["latency"][DEVICE]["machine"] == learned.machine

    # A budget that may bind: the kept structure was measured within it, whatever load the machine has.
    most = 20 * point.metrics[METRIC]
    new = NewTrial(params={"stage": "allocate"}, inputs={})
    recorder = Recorder(tmp_path)
    inputs = {"seed": artifact_file(trials / "1", "seed")}
    outputs = run(trial(resolved(stripes, [most]), stripes, tmp_path / "again", new, inputs=inputs), recorder)
    [config] = outputs["networks"]
    assert config["budget"] == most
    [latency] = read_table(recorder.artifacts[LATENCY_FILE]).latencies.values()
    assert latency.median_ms <= most
    assert latency == recorder.latencies[-1].latency


@pytest.mark.parametrize(
    "bounds", [{"budgets": [1e-4]}, {"budgets": [1e5], "constraints": [{**LATENCY, "value": 1e-4}]}]
)
def test_infeasible_bounds_end_the_search_before_training(
    stripes: Path, tmp_path: Path, bounds: dict[str, Any]
) -> None:
    with pytest.raises(LocalSearchError, match=r"no network.*; the fastest measured"):
        run_search(resolved(stripes, **bounds), stripes, tmp_path)
    states = [trial["state"] for trial in json.loads((tmp_path / "search.json").read_text())["trials"]]
    assert states in (["infeasible"], ["completed", "infeasible"])
    assert not (tmp_path / "metrics.jsonl").exists() or "loss" not in (tmp_path / "metrics.jsonl").read_text()


def test_latency_bound_is_added_to_a_budget_of_another_metric(stripes: Path) -> None:
    spec = resolved(stripes, [3.0, 4.0], constraints=[{**LATENCY, "value": 3.5}])
    assert budget.targets(spec) == (3.0, 3.5)
    method = spec.method.model_copy(update={"budget_metric": "macs", "budgets": (1e6,)})
    macs_spec = spec.model_copy(update={"method": method})
    assert budget.bounds(macs_spec, 1e6) == {"macs": 1e6, METRIC: 3.5}


@pytest.mark.parametrize(
    ("params", "devices", "message"),
    [
        ({"budget_metric": "latency_ms", "budgets": [5]}, (), "budget_metric: latency_ms needs a device"),
        (
            {},
            ("torch-cpu-1t", "ncnn-cpu-1t"),
            "measures on one device per search, not on torch-cpu-1t and ncnn-cpu-1t",
        ),
    ],
)
def test_unsuitable_devices_are_rejected(params: dict[str, Any], devices: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleNetParams.model_validate(params).check_devices(devices)


def test_latency_budgets_must_be_explicit() -> None:
    with pytest.raises(ValueError, match="budgets: missing with budget_metric latency_ms"):
        ScaleNetParams.model_validate({"budget_metric": "latency_ms"})
    params = ScaleNetParams.model_validate({"budget_metric": "latency_ms", "budgets": [5]}).resolved(DATASET, None)
    assert [candidate.key for candidate in params.candidates(DATASET)] == ["least", "most"]
