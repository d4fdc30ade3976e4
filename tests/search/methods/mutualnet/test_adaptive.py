"""The adaptive sweep: budget, results, stopping and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from paretofit.models.architecture import Architecture
from paretofit.models.layers.slimmable import Slimmable, UncalibratedError
from paretofit.search.contracts.latency import Latency, Table
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import Constraint, Objective, ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.latency import stage
from paretofit.search.methods.mutualnet import supernet, sweep
from paretofit.search.methods.mutualnet.params import MutualNetParams, SlimmableParams
from paretofit.search.methods.mutualnet.space import AT_LIMIT, Space
from paretofit.search.methods.proposals import STARTUP
from paretofit.search.pareto import nondominated
from tests.search.conftest import write_stripes
from tests.search.recorder import Recorder, never

IMAGES = {"train": 260, "selection": 600, "report": 20}
CALIBRATION = 256
FULL = CALIBRATION + IMAGES["selection"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("adaptive") / "dataset", 12, IMAGES)


def search(dataset: Path, *, constraints: tuple[Constraint, ...] = (), seed: int = 0, **changes: Any) -> ResolvedSpec:
    """18 networks at 12 and 8 pixels."""
    method = {
        "kind": "mutualnet",
        "nominal": 32,
        "resolutions": [12, 8],
        "batch_size": 16,
        "calibration_images": CALIBRATION,
        "widths": {"step": 0.1},
        "sweep": {"mode": "adaptive", "budget": 0.8},
        **changes,
    }
    body = {"name": "adaptive", "dataset_id": "local", "method": method, "constraints": constraints, "seed": seed}
    return SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile)


def trial_of(spec: ResolvedSpec, dataset: Path, folder: Path, checkpoint: Path | None = None) -> Trial:
    """The sweep trial of a search, on an untrained network."""
    folder.mkdir(exist_ok=True)
    path, work = folder / "supernet.safetensors", folder / "work"
    torch.manual_seed(1)
    supernet.save(path, Slimmable(spec.params(SlimmableParams).architecture(spec.dataset)))
    work.mkdir()
    return Trial(
        number=1,
        spec=spec,
        params={"stage": "sweep"},
        dataset=dataset,
        work=work,
        seed=spec.seed,
        inputs={"supernet": path},
        checkpoint=checkpoint,
    )


def swept(
    spec: ResolvedSpec, dataset: Path, folder: Path, stop: Any = never, checkpoint: Path | None = None
) -> tuple[dict[str, Any], Recorder]:
    trial = trial_of(spec, dataset, folder, checkpoint)
    recorder = Recorder(folder, stop=stop)
    return sweep.run(trial, recorder), recorder


def latest(*recorders: Recorder) -> dict[str, Point]:
    return {point.key: point for recorder in recorders for point in recorder.points}


@pytest.fixture(scope="module")
def uninterrupted_sweep(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Recorder]:
    """Outputs and reports of an uninterrupted sweep."""
    torch.set_num_threads(1)
    return swept(search(dataset), dataset, tmp_path_factory.mktemp("whole"))


def test_compares_on_a_subset_and_measures_the_best_on_all_images(
    dataset: Path, uninterrupted_sweep: tuple[dict[str, Any], Recorder]
) -> None:
    outputs, recorder = uninterrupted_sweep
    points = latest(recorder)
    assert outputs["candidates"] == outputs["compared"] == 18
    assert 8 <= outputs["evaluated"] == len(points) < 18
    assert outputs["images"] == 18 * (128 + 128) + outputs["evaluated"] * FULL <= 0.8 * 18 * FULL

    front = [point for point in points.values() if point.weights is not None]
    metrics = [point.metrics for point in points.values()]
    assert {point.key for point in front} == {list(points)[i] for i in nondominated(metrics)}
    data = Dataset.open(dataset)
    for point in front:
        assert point.weights is not None
        # Reported metrics are measured on all images.
        assert reevaluate(recorder.artifacts[point.weights], data, "selection").images == IMAGES["selection"]
        reevaluated = reevaluate(recorder.artifacts[point.weights], data, "selection")
        assert reevaluated.top1 == point.metrics["selection_top1"]


def test_statistics_of_the_comparison_are_discarded(
    dataset: Path, uninterrupted_sweep: tuple[dict[str, Any], Recorder]
) -> None:
    spec = search(dataset)
    _, recorder = uninterrupted_sweep
    network = supernet.load(recorder.artifacts["supernet"])
    points = latest(recorder)
    assert len(network.bank) == len(points)
    for candidate in spec.candidates():
        architecture = spec.params(SlimmableParams).network(spec.dataset, candidate.config)
        assert network.calibrated(architecture, candidate.input_size) == (candidate.key in points)
        if candidate.key not in points:
            with pytest.raises(UncalibratedError, match="no batch norm statistics"):
                network(torch.zeros(1, 1, *candidate.input_size), architecture)


@pytest.mark.parametrize("share", [0, 0.4, 0.97])
def test_drained_sweep_resumes_to_identical_results(
    dataset: Path, tmp_path: Path, uninterrupted_sweep: tuple[dict[str, Any], Recorder], share: float
) -> None:
    spec = search(dataset)
    outputs, uninterrupted = uninterrupted_sweep
    stop_at = int(share * uninterrupted.checks)
    _, first = swept(
        spec, dataset, tmp_path / "first", stop=lambda checks: Stop.DRAIN if checks == stop_at else Stop.NO
    )
    [(count, folder)] = first.checkpoints
    resumed, second = swept(spec, dataset, tmp_path / "second", checkpoint=folder)
    assert resumed == outputs
    assert latest(first, second) == latest(uninterrupted)
    assert (second.checks < uninterrupted.checks) == (count > 0)


def test_checkpoints_are_saved_periodically(dataset: Path, tmp_path: Path) -> None:
    spec = search(dataset, widths={"step": 0.25})
    trial = trial_of(spec, dataset, tmp_path)
    recorder = Recorder(tmp_path)
    sweep.run(trial, recorder, checkpoint_seconds=0)
    steps = [step for step, _ in recorder.checkpoints]
    assert steps == [4, 8]  # The four networks of an input size are measured together.


def test_measured_networks_meet_the_constraints(dataset: Path, tmp_path: Path) -> None:
    bounds = (Constraint(metric="macs", value=300_000), Constraint(metric="params", value=60_000))
    spec = search(dataset, constraints=bounds)
    assert 8 < len(spec.feasible()) < 18
    outputs, recorder = swept(spec, dataset, tmp_path)
    assert outputs["compared"] <= outputs["candidates"] == len(spec.feasible())
    assert all(bound.holds(point.metrics) for point in recorder.points for bound in bounds)


def test_front_uses_the_objectives_of_the_search(dataset: Path, tmp_path: Path) -> None:
    spec = search(dataset).model_copy(
        update={
            "objectives": (Objective(metric="params"), Objective(metric="selection_top1"), Objective(metric="macs"))
        }
    )
    _, recorder = swept(spec, dataset, tmp_path)
    points = latest(recorder)
    front = nondominated([point.metrics for point in points.values()], minimize=("params", "macs"))
    assert {key for key, point in points.items() if point.weights} == {list(points)[i] for i in front}


@pytest.mark.parametrize("share", [0, 0.2, 0.7])
def test_limit_measures_the_best_networks_so_far_on_all_images(
    dataset: Path, tmp_path: Path, uninterrupted_sweep: tuple[dict[str, Any], Recorder], share: float
) -> None:
    stop_at = int(share * uninterrupted_sweep[1].checks)
    _, recorder = swept(
        search(dataset), dataset, tmp_path, stop=lambda checks: Stop.LIMIT if checks >= stop_at else Stop.NO
    )
    points = latest(recorder)
    assert len(points) == AT_LIMIT
    assert any("top1" in point.metrics for point in points.values())


@pytest.mark.parametrize("last", [Stop.DRAIN, Stop.CANCEL])
def test_later_stop_overrides_a_limit(
    dataset: Path, tmp_path: Path, uninterrupted_sweep: tuple[dict[str, Any], Recorder], last: Stop
) -> None:
    """The limit comes while networks are compared; the other stop while the front is measured."""
    at = int(0.2 * uninterrupted_sweep[1].checks)
    stops = {Stop.LIMIT: range(at, at + 6), last: range(at + 6, 10**6)}
    _, recorder = swept(
        search(dataset),
        dataset,
        tmp_path,
        stop=lambda checks: next((stop for stop, when in stops.items() if checks in when), Stop.NO),
    )
    assert not recorder.artifacts
    assert len(recorder.checkpoints) == (last is Stop.DRAIN)


def test_full_measurements_at_a_limit_keep_statistics(dataset: Path, tmp_path: Path) -> None:
    """The sweep is drained at a limit before any comparison; the limit is then raised, and fully measured networks are
    compared."""
    spec = search(dataset)
    first = Recorder(tmp_path / "first")
    first.stop = lambda checks: Stop.DRAIN if first.points else Stop.LIMIT
    sweep.run(trial_of(spec, dataset, first.folder), first)
    [(_, folder)] = first.checkpoints
    assert first.points
    outputs, second = swept(spec, dataset, tmp_path / "second", checkpoint=folder)
    assert outputs["compared"] == 18
    network = supernet.load(second.artifacts["supernet"])
    for point in latest(first, second).values():
        assert network.calibrated(Architecture.from_json(point.architecture), point.input_size)


def test_cancel_ends_the_sweep_immediately(dataset: Path, tmp_path: Path) -> None:
    _, recorder = swept(search(dataset), dataset, tmp_path, stop=lambda checks: Stop.CANCEL)
    assert not recorder.points
    assert not recorder.artifacts


def test_small_split_is_not_subsampled(dataset: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    write_stripes(small, 12, {**IMAGES, "selection": 100})
    outputs, _ = swept(search(small), small, tmp_path / "out")
    assert outputs["images"] == outputs["evaluated"] * (CALIBRATION + 100)
    assert outputs["compared"] == outputs["evaluated"] == int(0.8 * 18)


def test_sweep_over_stage_widths(dataset: Path, tmp_path: Path) -> None:
    bounds = (Constraint(metric="macs", value=400_000),)
    spec = search(dataset, granularity="stage", constraints=bounds, widths={"step": 0.15})
    assert Space(spec).size > 1000
    outputs, recorder = swept(spec, dataset, tmp_path)
    points = latest(recorder)
    equal = {candidate.key for candidate in spec.candidates()}
    assert outputs["compared"] > outputs["evaluated"] == len(points)
    assert points.keys() - equal, "only equal widths"
    network = supernet.load(recorder.artifacts["supernet"])
    data = Dataset.open(dataset)
    for point in points.values():
        candidate = spec.method.candidate(spec.dataset, point.config)
        assert (candidate.key, candidate.input_size) == (point.key, point.input_size)
        assert candidate.cost == {name: point.metrics[name] for name in candidate.cost}
        assert bounds[0].holds(point.metrics)
        assert network.calibrated(Architecture.from_json(point.architecture), point.input_size)
        if point.weights is not None:
            assert reevaluate(recorder.artifacts[point.weights], data).equal


@pytest.mark.integration
def test_proposals_continue_after_a_drain(dataset: Path, tmp_path: Path) -> None:
    sweep_ = {"mode": "adaptive", "budget": 2}
    spec = search(dataset, granularity="stage", widths={"step": 0.25}, sweep=sweep_)
    outputs, uninterrupted_sweep = swept(spec, dataset, tmp_path / "whole")
    assert outputs["compared"] > STARTUP
    stop_at = 3 * STARTUP + 10  # Three checks per network, so proposals have started.
    _, first = swept(
        spec, dataset, tmp_path / "first", stop=lambda checks: Stop.DRAIN if checks == stop_at else Stop.NO
    )
    [(count, folder)] = first.checkpoints
    assert STARTUP < count < outputs["compared"]
    resumed, second = swept(spec, dataset, tmp_path / "second", checkpoint=folder)
    assert resumed == outputs
    assert latest(first, second) == latest(uninterrupted_sweep)


def test_grid_over_stage_widths_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"sweep\.mode: granularity stage has too many networks for a grid; use"):
        MutualNetParams(granularity="stage")


@pytest.mark.integration
def test_latency_objectives_restrict_the_sweep_to_measured_networks(dataset: Path, tmp_path: Path) -> None:
    metric = "latency_ms:torch-cpu-1t"
    objectives = [Objective(metric="selection_top1"), Objective(metric="latency_ms", device="torch-cpu-1t")]
    spec = search(dataset, granularity="stage", widths={"step": 0.25}, sweep={"mode": "adaptive", "budget": 0.3})
    spec = spec.model_copy(update={"objectives": tuple(objectives)})
    candidates = spec.candidates()
    equal = {candidate.key for candidate in spec.method.candidates(spec.dataset)}
    assert len(candidates) > len(equal)
    assert spec.candidates() == candidates
    # Networks excluded by another bound are not measured.
    bounds = (
        Constraint(metric="macs", value=0.9 * candidates[-1].cost["macs"]),
        Constraint(metric="latency_ms", device="torch-cpu-1t", value=4),
    )
    spec = spec.model_copy(update={"constraints": bounds})
    latencies = {
        each.key: Latency(median_ms=each.cost["macs"] / 1e5, p95_ms=each.cost["macs"], runs=1)
        for each in spec.feasible()
    }
    assert len(latencies) < len(candidates)
    informed = stage.with_tables(spec, [Table(device="torch-cpu-1t", machine={}, latencies=latencies)])
    feasible = {each.key for each in informed.feasible()}
    assert equal - feasible
    assert feasible - equal
    outputs, recorder = swept(informed, dataset, tmp_path)
    points = latest(recorder)
    assert outputs["compared"] >= outputs["evaluated"] == len(points)
    assert points.keys() <= feasible
    assert points.keys() - equal, "only equal widths"
    assert all(0 < point.metrics[metric] <= 4 for point in points.values())
