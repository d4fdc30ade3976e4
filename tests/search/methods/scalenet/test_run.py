"""A search with two budgets, trial by trial: training, allocation, measurement, reports and resuming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost, main
from paretofit.models.families.structures import from_line, written
from paretofit.models.kinds.aggregation import aggregations
from paretofit.search.contracts.plan import NewTrial, TrialRecord
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.methods.scalenet import train
from paretofit.search.methods.scalenet.allocate import find_sites
from paretofit.search.methods.scalenet.params import ScaleNetParams
from paretofit.search.methods.scalenet.plan import plan
from paretofit.search.methods.scalenet.run import run
from tests.search.recorder import Recorder

METHOD: dict[str, Any] = {
    "kind": "scalenet",
    "family": "scalenet20",
    "base_width": 0.5,
    "budgets": [1.1e6, 1.6e6],
    "baselines": ["single"],
    "epochs": 2,
    "seed_epochs": 1,
    "batch_size": 16,
    "calibration_images": 64,
    "ema_decay": 0.9,
}


def resolved(stripes: Path, **changes: Any) -> ResolvedSpec:
    submitted = {"name": "stripes", "dataset_id": "local", "method": METHOD | changes}
    return SearchSpec.model_validate(submitted).resolve(Dataset.open(stripes).profile)


def trial(spec: ResolvedSpec, dataset: Path, folder: Path, new: NewTrial, **changes: Any) -> Trial:
    work = folder / "work"
    work.mkdir(parents=True)
    return replace(Trial(number=1, spec=spec, params=new.params, dataset=dataset, work=work, seed=3), **changes)


@dataclass(frozen=True)
class AllocatedSearch:
    spec: ResolvedSpec
    seed: Path
    allocated: dict[str, Any]
    planned: tuple[NewTrial, ...]


@pytest.fixture(scope="module")
def searched(stripes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AllocatedSearch]:
    """A search after seed training and allocation, before its networks are trained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec = resolved(stripes)
    folder = tmp_path_factory.mktemp("scalenet")
    recorder = Recorder(folder)
    [first] = plan(spec, []).trials
    outputs = run(trial(spec, stripes, folder / "0", first), recorder)
    assert (outputs["epochs"], outputs["planned_epochs"]) == (1.0, 1)
    history = [TrialRecord(number=0, state="completed", params=first.params, outputs=outputs)]
    [second] = plan(spec, history).trials
    source = recorder.artifacts["seed"]
    outputs = run(trial(spec, stripes, folder / "1", second, inputs={"seed": source}), recorder)
    history.append(TrialRecord(number=1, state="completed", params=second.params, outputs=outputs))
    described = json.loads(recorder.artifacts["allocation.json"].read_text())
    assert described["networks"] == outputs["networks"]
    assert [len(scale) for scale in described["importance"][0]] == [8, 8, 8, 8]
    yield AllocatedSearch(spec, source, outputs, plan(spec, history).trials)
    torch.set_num_threads(threads)


def test_allocation_has_a_structure_per_budget_and_baseline(searched: AllocatedSearch) -> None:
    spec = searched.spec
    requested = [(each["allocation"], each["budget"]) for each in searched.allocated["networks"]]
    assert requested == [("learned", 1.1e6), ("learned", 1.6e6), ("single", 1.1e6), ("single", 1.6e6)]
    for each in searched.allocated["networks"]:
        costs = spec.params(ScaleNetParams).space(spec.dataset).cost(from_line(each["structure"]))
        # A step of alpha is up to an eighth here, because a block has 8 planes.
        assert 0.85 * each["budget"] <= costs["macs"] <= each["budget"]


def test_importance_is_the_scale_of_the_normalization(searched: AllocatedSearch) -> None:
    architecture, tensors = train.read_seed(searched.seed)
    params, dataset = searched.spec.params(ScaleNetParams), searched.spec.dataset
    sites = find_sites(params, dataset, architecture, tensors)
    for site, name in zip(sites, aggregations(architecture), strict=True):
        for i, scores in enumerate(site.scores):
            assert torch.equal(torch.tensor(scores), tensors[f"{name}.branches.{i}.norm.weight"].abs())
    negative = {name: -tensor for name, tensor in tensors.items()}
    assert find_sites(params, dataset, architecture, negative) == sites
    signed = params.model_copy(update={"importance": "signed"})
    assert max(find_sites(signed, dataset, architecture, negative)[0].scores[0]) < 0
    cheap = params.model_copy(update={"cost_exponent": 1.0})
    site = find_sites(cheap, dataset, architecture, tensors)[0]
    macs = 9 * 8 * 16 * 16
    assert site.scores[0][0] == pytest.approx(sites[0].scores[0][0] / macs)
    # At a scale of 2 a channel costs a quarter.
    assert site.scores[1][0] == pytest.approx(sites[0].scores[1][0] / (macs / 4))


def test_network_is_reported_as_a_point_with_weights_and_report(
    searched: AllocatedSearch, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(tmp_path)
    outputs = run(trial(searched.spec, stripes, tmp_path, searched.planned[1]), recorder)
    [point] = recorder.points
    assert (point.key, point.role, point.config) == ("macs-1600000", "candidate", searched.planned[1].params["config"])
    assert outputs["point"] == point.key
    assert outputs["used"] == point.metrics["macs"] / 1.6e6 <= 1
    architecture = Architecture.from_json(point.architecture)
    costs = cost(architecture, point.input_size).as_dict()
    assert {name: point.metrics[name] for name in costs} == costs
    path = recorder.artifacts["macs-1600000.safetensors"]
    assert Point.model_validate(checkpoint.read_record(path)) == point
    for split, metric in (("report", "top1"), ("selection", "selection_top1")):
        assert reevaluate(path, Dataset.open(stripes), split).top1 == point.metrics[metric]
    report = json.loads(recorder.artifacts["macs-1600000.scales.json"].read_text())
    assert written(tuple(map(tuple, report["structure"]))) == point.config["structure"]
    assert [row["size"] for row in report["aggregations"]][::6] == [[16, 16], [8, 8], [4, 4]]
    picture = recorder.artifacts["macs-1600000.scales.svg"].read_text()
    assert picture.startswith("<?xml")
    assert "macs-1600000" in picture
    # The cost command reads the report as a structure.
    file = recorder.artifacts["macs-1600000.scales.json"]
    main(f"scalenet20 --base-width 0.5 --nominal 16 --classes 3 --channels 1 --structure {file}".split())
    assert json.loads(capsys.readouterr().out)["macs"] == point.metrics["macs"]


def test_other_allocations_are_baselines(searched: AllocatedSearch, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    run(trial(searched.spec, stripes, tmp_path, searched.planned[2]), recorder)
    [point] = recorder.points
    assert (point.role, point.key) == ("baseline", "single-macs-1100000")
    blocks = aggregations(Architecture.from_json(point.architecture)).values()
    assert {block.scales for block in blocks} == {(1,)}


def test_drained_training_resumes_to_the_same_network(searched: AllocatedSearch, stripes: Path, tmp_path: Path) -> None:
    new = searched.planned[0]
    uninterrupted = Recorder(tmp_path)
    run(trial(searched.spec, stripes, tmp_path, new), uninterrupted)
    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == 5 else Stop.NO)
    run(trial(searched.spec, stripes, tmp_path / "a", new), first)
    assert not first.points
    [(step, saved)] = first.checkpoints
    assert step == 5
    second = Recorder(tmp_path / "b")
    run(trial(searched.spec, stripes, tmp_path / "b", new, checkpoint=saved), second)
    name = uninterrupted.points[0].weights
    assert name is not None
    assert second.artifacts[name].read_bytes() == uninterrupted.artifacts[name].read_bytes()


@pytest.mark.parametrize("stop", [Stop.CANCEL, Stop.DRAIN])
def test_stopped_trials_report_no_points(searched: AllocatedSearch, stripes: Path, tmp_path: Path, stop: Stop) -> None:
    # One stop check per training step, 12 in total, then checks during measurement.
    recorder = Recorder(tmp_path, stop=lambda checks: stop if checks >= 12 else Stop.NO)
    train.train_network(trial(searched.spec, stripes, tmp_path, searched.planned[0]), recorder)
    assert not recorder.points


def test_limit_reports_the_current_network(searched: AllocatedSearch, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.LIMIT if checks >= 3 else Stop.NO)
    outputs = run(trial(searched.spec, stripes, tmp_path, searched.planned[0]), recorder)
    assert (outputs["steps"], len(recorder.points)) == (3, 1)


def test_seed_training_leaves_time_for_the_networks(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes)
    limits = spec.limits.model_copy(update={"max_wall_seconds": 1e-6})
    recorder = Recorder(tmp_path)
    outputs = run(
        trial(spec.model_copy(update={"limits": limits}), stripes, tmp_path, NewTrial(params={"stage": "seed"})),
        recorder,
    )
    assert outputs["steps"] == 0
    assert "seed" in recorder.artifacts


def test_unknown_stages_are_rejected(searched: AllocatedSearch, stripes: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stage 'sweep'; use one of seed, network, allocate"):
        run(trial(searched.spec, stripes, tmp_path, NewTrial(params={"stage": "sweep"})), Recorder(tmp_path))
