"""The grid sweep: measured networks, reports, stopping and resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import Constraint, ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.methods.mutualnet import supernet, sweep
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.space import AT_LIMIT
from paretofit.search.pareto import nondominated, preference
from paretofit.search.training.loop import DivergedError
from tests.search.recorder import Recorder


@pytest.fixture
def trial(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> Trial:
    torch.manual_seed(1)
    network = Slimmable(spec.params(SlimmableParams).architecture(spec.dataset))
    path = tmp_path / "supernet.safetensors"
    supernet.save(path, network)
    work = tmp_path / "work"
    work.mkdir()
    return Trial(number=1, spec=spec, params={"stage": "sweep"}, dataset=stripes, work=work, inputs={"supernet": path})


def keys(points: list[Point]) -> list[str]:
    return list(dict.fromkeys(point.key for point in points))


def test_every_candidate_is_measured_and_the_front_has_weights(trial: Trial, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    outputs = sweep.run(trial, recorder)
    candidates = {candidate.key: candidate for candidate in trial.spec.candidates()}
    assert outputs["evaluated"] == outputs["candidates"] == 6
    assert outputs["images"] == 6 * (64 + 30)
    assert sorted(keys(recorder.points)) == sorted(candidates)
    measured, front = recorder.points[:6], recorder.points[6:]
    assert all(point.weights is None and "top1" not in point.metrics for point in measured)
    expected = {measured[i].key for i in nondominated([point.metrics for point in measured])}
    assert {point.key for point in front} == expected

    data = Dataset.open(stripes)
    for point in recorder.points:
        architecture = Architecture.from_json(point.architecture)
        costs = cost(architecture, point.input_size).as_dict()
        assert {name: point.metrics[name] for name in costs} == costs == candidates[point.key].cost
        assert point.supernet == "supernet"
    for point in front:
        assert point.weights is not None
        path = recorder.artifacts[point.weights]
        assert Point.model_validate(checkpoint.read_record(path)) == point
        reevaluated = reevaluate(path, data)
        assert (reevaluated.top1, reevaluated.equal, reevaluated.images) == (point.metrics["top1"], True, 60)
        # The static network has the accuracy of the slice of the supernet.
        assert reevaluate(path, data, "selection").top1 == point.metrics["selection_top1"]
    assert recorder.metrics["progress", 1000] == 1.0


def spoil(trial: Trial, channel: int) -> None:
    """Set an output channel of one convolution of the supernet to NaN."""
    network = supernet.load(trial.inputs["supernet"])
    weight = dict(network.network.named_parameters())["blocks.2.conv1.weight"]
    weight.data[channel] = float("nan")
    supernet.save(trial.inputs["supernet"], network)


def test_non_finite_networks_are_not_reported(trial: Trial, tmp_path: Path) -> None:
    """The last channel is only used at full width."""
    spoil(trial, -1)
    recorder = Recorder(tmp_path)
    outputs = sweep.run(trial, recorder)
    assert (outputs["evaluated"], outputs["nonfinite"]) == (4, 2)
    assert {point.config["width"] for point in recorder.points} == {0.5, 0.75}
    for point in recorder.points:
        if point.weights is not None:
            assert checkpoint.first_nonfinite(checkpoint.load(recorder.artifacts[point.weights])) is None


def test_sweep_without_finite_networks_fails_as_diverged(trial: Trial, tmp_path: Path) -> None:
    spoil(trial, 0)
    recorder = Recorder(tmp_path)
    with pytest.raises(DivergedError, match=r"every measured network has infinite or NaN .*; lower learning_rate"):
        sweep.run(trial, recorder)
    assert not recorder.points


def test_swept_supernet_has_the_statistics_of_every_point(trial: Trial, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    sweep.run(trial, recorder)
    network = supernet.load(recorder.artifacts["supernet"])
    for point in recorder.points:
        assert network.calibrated(Architecture.from_json(point.architecture), point.input_size)
    front = recorder.points[-1]
    assert front.weights is not None
    cut = network.extract(Architecture.from_json(front.architecture), front.input_size).state_dict()
    stored = checkpoint.load(recorder.artifacts[front.weights]).state_dict()
    assert all(torch.equal(cut[name], stored[name]) for name in stored)


@pytest.mark.parametrize("cost", ["macs", "params", "peak_activation_bytes"])
def test_query_table_has_the_best_front_point_under_every_bound(trial: Trial, tmp_path: Path, cost: str) -> None:
    recorder = Recorder(tmp_path)
    table = sweep.run(trial, recorder)["best_under"][cost]
    front = [point for point in recorder.points if point.weights is not None]
    assert [step["bound"] for step in table] == sorted({step["bound"] for step in table})
    for bound in sorted({point.metrics[cost] + shift for point in recorder.points for shift in (-1, 0, 1)}):
        fitting = [point for point in front if point.metrics[cost] <= bound]
        within = [step for step in table if step["bound"] <= bound]
        assert bool(fitting) == bool(within)
        if fitting:
            best = min(fitting, key=lambda point: preference(point.metrics, point.key))
            assert within[-1] == {
                "bound": best.metrics[cost],
                "key": best.key,
                "selection_top1": best.metrics["selection_top1"],
            }


def test_infeasible_networks_are_never_measured(trial: Trial, tmp_path: Path) -> None:
    bound = Constraint(metric="macs", value=sorted(c.cost["macs"] for c in trial.spec.candidates())[2])
    recorder = Recorder(tmp_path)
    sweep.run(replace(trial, spec=trial.spec.model_copy(update={"constraints": (bound,)})), recorder)
    assert len(keys(recorder.points)) == 3
    assert all(bound.holds(point.metrics) for point in recorder.points)


def test_cancel_ends_the_sweep_immediately(trial: Trial, tmp_path: Path) -> None:
    # The three networks of an input size are measured together; stops are checked before them and at each batch.
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.CANCEL if checks == 4 else Stop.NO)
    assert sweep.run(trial, recorder)["evaluated"] == 3
    assert recorder.checks == 5
    assert not recorder.artifacts


@pytest.mark.parametrize(("stop_at", "measured"), [(2, 0), (4, 3), (7, 6)])
def test_drained_sweep_resumes_with_measured_networks(
    trial: Trial, tmp_path: Path, stop_at: int, measured: int
) -> None:
    uninterrupted = Recorder(tmp_path)
    sweep.run(trial, uninterrupted)
    (tmp_path / "first").mkdir()
    first = Recorder(tmp_path / "first", stop=lambda checks: Stop.DRAIN if checks == stop_at else Stop.NO)
    sweep.run(_in_folder(trial, tmp_path / "first"), first)
    [(count, folder)] = first.checkpoints
    assert count == measured
    (tmp_path / "second").mkdir()
    second = Recorder(tmp_path / "second")
    sweep.run(_in_folder(trial, tmp_path / "second", folder), second)
    reported = first.points + second.points
    assert {point.key: point for point in reported} == {point.key: point for point in uninterrupted.points}
    assert len(second.points) == len(uninterrupted.points) - len(first.points)


def test_limit_measures_a_few_networks_across_the_costs(trial: Trial, tmp_path: Path) -> None:
    method = trial.spec.method.model_copy(
        update={"widths": trial.spec.params(SlimmableParams).widths.model_copy(update={"min": 0.25, "step": 0.05})}
    )
    spec = trial.spec.model_copy(update={"method": method})
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.LIMIT)
    sweep.run(replace(trial, spec=spec), recorder)
    macs = {point.key: point.metrics["macs"] for point in recorder.points}
    costs = [candidate.cost["macs"] for candidate in spec.candidates()]
    assert len(macs) == AT_LIMIT < len(costs)
    assert (min(macs.values()), max(macs.values())) == (min(costs), max(costs))
    assert any("top1" in point.metrics for point in recorder.points)


def test_sweep_rejects_other_files(trial: Trial, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    sweep.run(trial, recorder)
    weights = recorder.points[-1].weights
    assert weights is not None
    with pytest.raises(ValueError, match="not a supernet"):
        sweep.run(replace(trial, inputs={"supernet": recorder.artifacts[weights]}), recorder)


def _in_folder(trial: Trial, folder: Path, checkpoint: Path | None = None) -> Trial:
    work = folder / "work"
    work.mkdir()
    return replace(trial, work=work, checkpoint=checkpoint)
