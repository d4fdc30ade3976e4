"""Trials that train one network to a point or end early."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paretofit.models import checkpoint
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial, TrialEndedError
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.local import LocalSearch
from paretofit.search.methods.fd_mobilenet.plan import plan
from paretofit.search.methods.fd_mobilenet.run import run
from tests.search.methods.fd_mobilenet.conftest import resolved
from tests.search.recorder import Recorder

ALL_RIGHT = f"{(1 << 30) - 1:x}"
"""For the 30 selection images."""


def trial(spec: ResolvedSpec, dataset: Path, folder: Path, **changes: Any) -> Trial:
    work = folder / "work"
    work.mkdir(parents=True)
    params = plan(spec, []).trials[0].params
    return replace(Trial(number=0, spec=spec, params=params, dataset=dataset, work=work, seed=3), **changes)


@pytest.mark.parametrize("family", ["fd_mobilenet", "mobilenet_v1", "mobilenet_v2", "shufflenet_v1", "fd_shufflenet"])
@pytest.mark.integration
def test_every_family_is_trained_and_measured(stripes: Path, tmp_path: Path, family: str) -> None:
    spec = resolved(stripes, method={"families": [family], "widths": [0.1], "resolutions": [12]})
    recorder = Recorder(tmp_path)
    outputs = run(trial(spec, stripes, tmp_path), recorder)
    [point] = recorder.points
    [candidate] = spec.candidates()
    assert (point.key, point.config, point.role) == (candidate.key, candidate.config, "candidate")
    assert {name: point.metrics[name] for name in candidate.cost} == candidate.cost
    assert (outputs["epochs"], outputs["planned_epochs"], outputs["point"]) == (2.0, 2, point.key)
    assert [compared["fraction"] for compared in outputs["compared"]] == [0.25, 0.5]
    path = recorder.artifacts["network.safetensors"]
    assert checkpoint.read_record(path) == point.model_dump(mode="json")
    reevaluated = reevaluate(path, Dataset.open(stripes))
    assert (reevaluated.top1, reevaluated.equal) == (point.metrics["top1"], True)


def test_dominated_training_is_pruned(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    trial_spec = trial(spec, stripes, tmp_path)
    rivals = [{"trial": 7, "fraction": 0.5, "top1": 1.0, "hits": ALL_RIGHT}]
    recorder = Recorder(tmp_path)
    with pytest.raises(TrialEndedError) as error:
        run(replace(trial_spec, params=trial_spec.params | {"rivals": rivals}), recorder)
    assert error.value.state == "pruned"
    assert (error.value.outputs["epochs"], error.value.outputs["dominated_by"]) == (1.0, 7)
    assert len(error.value.outputs["compared"]) == 2
    assert not recorder.points


def test_comparisons_are_reproducible_after_a_drain(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    uninterrupted = run(trial(spec, stripes, tmp_path / "a"), Recorder(tmp_path / "a"))
    first = Recorder(tmp_path / "b", stop=lambda checks: Stop.DRAIN if checks == 5 else Stop.NO)
    run(trial(spec, stripes, tmp_path / "b"), first)
    [(step, saved)] = first.checkpoints
    assert step == 5
    repeated = Recorder(tmp_path / "c")
    resumed = run(trial(spec, stripes, tmp_path / "c", checkpoint=saved), repeated)
    assert resumed == uninterrupted
    assert len(resumed["compared"]) == 2


def test_tuned_recipe_is_used_in_training(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, method={"tuning": {"learning_rate": [0.2, 0.3]}})
    recorder = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path), recorder)
    [point] = recorder.points
    assert point.key.endswith("-t0")
    rate = point.config["learning_rate"]
    assert isinstance(rate, float)
    assert 0.2 <= rate <= 0.3
    assert max(value for (name, _), value in recorder.metrics.items() if name == "learning_rate") <= 0.3


@pytest.mark.integration
def test_search_prunes_trials_and_continues(stripes: Path, tmp_path: Path) -> None:
    """With a tolerance of zero, every training that is behind a rival ends, including those of costlier networks."""
    method = {"trials": 8, "parallel_trials": 1, "epochs": 3, "pruning": {"fractions": [0.5], "errors": 0}}
    search = LocalSearch(resolved(stripes, method=method), stripes, tmp_path)
    front = search.run(lambda: Stop.NO, lambda trial, fraction: None)
    states = [done["state"] for done in json.loads((tmp_path / "search.json").read_text())["trials"]]
    assert front.finished
    assert front.points
    assert set(states) == {"completed", "pruned"}
