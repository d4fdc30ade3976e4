"""Trainings of networks with masks, and their results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.models.kinds.sampling import densities, sampled_blocks
from paretofit.models.layers.sparse import sparse
from paretofit.models.layers.spatial_sampling import samplings
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.methods.spatial_sampling import masks
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams
from paretofit.search.methods.spatial_sampling.run import run
from paretofit.search.methods.spatial_sampling.step import target, temperature
from tests.search.recorder import Recorder

METHOD: dict[str, Any] = {
    "kind": "spatial_sampling",
    "family": "wrn_10_1",
    "base_width": 0.5,
    "fill": "zero",
    "epochs": 2,
    "batch_size": 16,
    "calibration_images": 64,
}


def resolved(stripes: Path, constraints: tuple[Any, ...] = (), **changes: Any) -> ResolvedSpec:
    submitted = {"name": "stripes", "dataset_id": "local", "method": METHOD | changes, "constraints": constraints}
    return SearchSpec.model_validate(submitted).resolve(Dataset.open(stripes).profile)


def trial(spec: ResolvedSpec, dataset: Path, folder: Path, config: dict[str, Any], **changes: Any) -> Trial:
    work = folder / "work"
    work.mkdir(parents=True)
    params = {"config": config, "epochs": spec.params(SpatialSamplingParams).epochs}
    return replace(Trial(number=1, spec=spec, params=params, dataset=dataset, work=work, seed=3), **changes)


def test_temperature_decays_exponentially() -> None:
    assert temperature(0, 100, 0.03) == 1
    assert temperature(100, 100, 0.03) == pytest.approx(0.03)
    assert temperature(50, 100, 0.03) == pytest.approx(0.03**0.5)


def test_density_target_decreases_in_the_first_half() -> None:
    assert [target(0.2, progress) for progress in (0.0, 0.5, 0.7, 1.0)] == pytest.approx([1.0, 0.2, 0.2, 0.2])
    assert target(0.2, 0.25) == pytest.approx(0.6)


def test_network_is_reported_as_points_with_weights_densities_and_pictures(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, shares=[0.25], fill="rbf", grid=5)
    recorder = Recorder(tmp_path)
    outputs = run(trial(spec, stripes, tmp_path, {"density": 0.4}), recorder)
    assert [point.key for point in recorder.points] == outputs["points"] == ["density-0.4", "density-0.4-budget-0.25"]
    stochastic, budgeted = recorder.points
    assert stochastic.metrics["macs"] > budgeted.metrics["macs"]
    for point in recorder.points:
        architecture = Architecture.from_json(point.architecture)
        costs = cost(architecture, point.input_size).as_dict()
        assert {name: point.metrics[name] for name in costs} == costs
        assert min(point.metrics["sparse_ms"], point.metrics["dense_ms"]) > 0
        path = recorder.artifacts[f"{point.key}.safetensors"]
        assert Point.model_validate(checkpoint.read_record(path)) == point
        for split, metric in (("report", "top1"), ("selection", "selection_top1")):
            assert reevaluate(path, Dataset.open(stripes), split).top1 == point.metrics[metric]
        report = json.loads(recorder.artifacts[f"{point.key}.masks.json"].read_text())
        assert [row["densities"] for row in report["blocks"]] == [
            list(block.densities) for block in sampled_blocks(architecture)
        ]
        with Image.open(recorder.artifacts[f"{point.key}.masks.png"]) as picture:
            # Four rows, each with an image, its computed positions and six masks.
            assert picture.size == (8 * 100 - 4, 4 * 100 - 4)
        network = checkpoint.load(path)
        x = torch.randn(2, 1, 16, 16)
        with torch.inference_mode():
            assert torch.allclose(sparse(network)(x), network(x), rtol=1e-4, atol=1e-4)
    assert sampled_blocks(Architecture.from_json(budgeted.architecture))[0].draw == "budget"
    assert {name for name, _ in recorder.metrics} >= {"loss", "sparsity_loss", "density"}


def test_training_reaches_the_target_density(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, epochs=6, density_weight=100)
    recorder = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path, {"density": 0.3}), recorder)
    [point] = recorder.points
    last = max(step for name, step in recorder.metrics if name == "density")
    assert recorder.metrics["density", last] == pytest.approx(0.3, abs=0.1)
    learned = densities(Architecture.from_json(point.architecture))
    assert sum(learned) / len(learned) == pytest.approx(0.3, abs=0.2)


def test_larger_sparsity_weight_gives_sparser_masks(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, loss="gamma", learning_rate=0.3)
    totals = []
    for gamma in (0.01, 50.0):
        recorder = Recorder(tmp_path / str(gamma))
        run(trial(spec, stripes, tmp_path / str(gamma), {"gamma": gamma}), recorder)
        totals.append(sum(densities(Architecture.from_json(recorder.points[0].architecture))))
    assert totals[1] < 0.8 * totals[0]


@pytest.mark.parametrize("baseline", ["deterministic", "gated"])
def test_other_mask_types_are_baselines(stripes: Path, tmp_path: Path, baseline: str) -> None:
    spec = resolved(stripes, shares=[0.5])
    recorder = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path, {"baseline": baseline, "density": 0.4}), recorder)
    [point] = recorder.points
    assert (point.role, point.key) == ("baseline", f"{baseline}-density-0.4")
    assert {block.draw for block in sampled_blocks(Architecture.from_json(point.architecture))} == {baseline}


def test_smaller_images_are_a_baseline(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes)
    recorder = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path, {"baseline": "uniform", "side": 12}), recorder)
    [point] = recorder.points
    assert (point.role, point.key, point.input_size) == ("baseline", "uniform-12", (12, 12))
    assert not sampled_blocks(Architecture.from_json(point.architecture))
    assert point.metrics["sparse_ms"] == point.metrics["dense_ms"] > 0
    path = recorder.artifacts["uniform-12.safetensors"]
    assert Point.model_validate(checkpoint.read_record(path)) == point


@pytest.mark.parametrize("draw", ["budget", "deterministic"])
def test_other_draws_are_trained(stripes: Path, tmp_path: Path, draw: str) -> None:
    recorder = Recorder(tmp_path)
    run(trial(resolved(stripes, draw=draw), stripes, tmp_path, {"density": 0.5}), recorder)
    [point] = recorder.points
    architecture = Architecture.from_json(point.architecture)
    assert {block.draw for block in sampled_blocks(architecture)} == {draw}
    # The stored densities match the masks.
    network = checkpoint.load(recorder.artifacts[f"{point.key}.safetensors"])
    shares = [float((mask > 0).float().mean()) for mask in masks.of(network, torch.randn(8, 1, 16, 16))]
    if draw == "budget":
        for share, expected, each in zip(shares, densities(architecture), samplings(network), strict=True):
            assert each.density == expected
            assert share == pytest.approx(expected, abs=0.05)


def test_constraint_is_met_by_a_fixed_budget(stripes: Path, tmp_path: Path) -> None:
    bound = resolved(stripes).params(SpatialSamplingParams).cost(resolved(stripes).dataset, 0.3)["macs"]
    spec = resolved(stripes, ({"metric": "macs", "value": bound},))
    recorder = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path, {"density": 0.3}), recorder)
    [point] = recorder.points
    assert 0.9 * bound <= point.metrics["macs"] <= bound
    path = recorder.artifacts[f"{point.key}.safetensors"]
    assert reevaluate(path, Dataset.open(stripes), "report").top1 == point.metrics["top1"]


def test_drained_training_resumes_to_the_same_network(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes)
    uninterrupted = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path, {"density": 0.4}), uninterrupted)
    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == 5 else Stop.NO)
    run(trial(spec, stripes, tmp_path / "a", {"density": 0.4}), first)
    assert not first.points
    [(step, saved)] = first.checkpoints
    assert step == 5
    second = Recorder(tmp_path / "b")
    run(trial(spec, stripes, tmp_path / "b", {"density": 0.4}, checkpoint=saved), second)
    tensors = [checkpoint.read(r.artifacts["density-0.4.safetensors"])[0] for r in (uninterrupted, second)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


@pytest.mark.parametrize("stop", [Stop.CANCEL, Stop.DRAIN])
def test_stopped_trials_report_no_points(stripes: Path, tmp_path: Path, stop: Stop) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: stop if checks >= 12 else Stop.NO)
    run(trial(resolved(stripes), stripes, tmp_path, {"density": 0.4}), recorder)
    assert not recorder.points


def test_limit_reports_the_current_network(stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.LIMIT if checks >= 3 else Stop.NO)
    outputs = run(trial(resolved(stripes), stripes, tmp_path, {"density": 0.4}), recorder)
    assert (outputs["steps"], len(recorder.points)) == (3, 1)
