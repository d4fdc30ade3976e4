"""Separately trained baselines, and the gain of a boosted network over its baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paretofit.models import checkpoint
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.local import LocalSearch
from paretofit.search.methods.mutualnet import run
from tests.search.recorder import Recorder

SMALL = {"stage": "baseline", "width": 0.5, "resolution": 12, "epochs": 2}
STEPS = 12


def trial(spec: ResolvedSpec, dataset: Path, folder: Path, **changes: Any) -> Trial:
    work = folder / "work"
    work.mkdir(parents=True)
    return replace(Trial(number=1, spec=spec, params=SMALL, dataset=dataset, work=work, seed=3), **changes)


def test_baseline_is_reported_with_weights(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    outputs = run.run(trial(spec, stripes, tmp_path), recorder)
    [point] = recorder.points
    assert outputs == {
        "steps": STEPS,
        "epochs": 2.0,
        "planned_epochs": 2,
        "batch_size": 16,
        "point": "baseline-w0.5-r12",
    }
    assert (point.role, point.key, point.config) == ("baseline", outputs["point"], {"width": 0.5, "resolution": 12})
    path = recorder.artifacts["baseline.safetensors"]
    assert Point.model_validate(checkpoint.read_record(path)) == point
    data = Dataset.open(stripes)
    for split, metric in (("report", "top1"), ("selection", "selection_top1")):
        assert reevaluate(path, data, split).top1 == point.metrics[metric]


@pytest.mark.parametrize("stop_at", [STEPS // 2, STEPS])
def test_drained_baseline_resumes_to_identical_results(
    spec: ResolvedSpec, stripes: Path, tmp_path: Path, stop_at: int
) -> None:
    uninterrupted = Recorder(tmp_path)
    run.run(trial(spec, stripes, tmp_path), uninterrupted)
    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == stop_at else Stop.NO)
    run.run(trial(spec, stripes, tmp_path / "a"), first)
    assert not first.points
    saved = first.checkpoints[-1][1] if first.checkpoints else None
    assert (saved is None) == (stop_at == STEPS)
    second = Recorder(tmp_path / "b")
    run.run(trial(spec, stripes, tmp_path / "b", checkpoint=saved), second)
    assert second.points == uninterrupted.points


def test_boosted_network_is_reported_with_its_gain(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    boost = type(spec.method)(**spec.method.model_dump() | {"goal": "boost", "widths": {"min": 0.5}})
    spec = spec.model_copy(update={"method": boost})
    [candidate] = spec.candidates()
    front = LocalSearch(spec, stripes, tmp_path).run(lambda: Stop.NO, lambda trial, fraction: None)
    [boosted] = front.points
    shared, baseline_trial, last = json.loads((tmp_path / "search.json").read_text())["trials"]
    [point] = baseline_trial["points"].values()
    assert (boosted.key, boosted.config, boosted.input_size) == (candidate.key, candidate.config, candidate.input_size)
    assert (boosted.role, point["role"]) == ("candidate", "baseline")
    assert boosted.architecture == point["architecture"]
    assert shared["outputs"]["epochs"] == baseline_trial["outputs"]["epochs"] == 2
    for name in ("selection_top1", "top1"):
        gain = boosted.metrics[name] - point["metrics"][name]
        assert boosted.metrics[f"{name}_gain"] == last["outputs"][f"{name}_gain"] == gain
        assert last["outputs"]["baseline"][name] == point["metrics"][name]
    assert boosted.provenance["baseline"] == last["outputs"]["baseline"]
    assert boosted.provenance["baseline"]["trial"] == 1
    reevaluated = reevaluate(tmp_path / "points" / f"{boosted.key}.safetensors", Dataset.open(stripes))
    assert (reevaluated.top1, reevaluated.equal) == (boosted.metrics["top1"], True)


def test_untrained_networks_are_not_baselines(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.LIMIT)
    outputs = run.run(trial(spec, stripes, tmp_path), recorder)
    assert (outputs["steps"], recorder.points, recorder.artifacts) == (0, [], {})
