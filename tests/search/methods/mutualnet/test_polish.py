"""Polishing: separate weights for networks of the front, and its plan."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paretofit.models import checkpoint
from paretofit.models.build import build
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.plan import Plan, TrialArtifact, TrialRecord, TrialState
from paretofit.search.contracts.spec import Limits, ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.loader import Batch
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.methods.mutualnet import budget, polish
from paretofit.search.methods.mutualnet.params import MutualNetParams, SlimmableParams
from paretofit.search.methods.mutualnet.plan import plan
from paretofit.search.methods.mutualnet.train import Phases
from tests.search.methods.mutualnet.test_params import profile
from tests.search.recorder import Recorder
from tests.search.starts import run_search

STEPS, NETWORKS = 6, 3
TRAIN, SWEEP = {"stage": "train", "epochs": 2}, {"stage": "sweep"}
CONFIGS = [{"width": width, "resolution": side} for width, side in ((0.5, 12), (0.75, 12), (0.75, 16), (1.0, 16))]
CHOSEN = {"teacher": CONFIGS[-1], "networks": CONFIGS}


@pytest.fixture
def method(method: dict[str, Any]) -> dict[str, Any]:
    """The small search with one polishing epoch for each of three networks."""
    return method | {"polish": STEPS, "polish_networks": NETWORKS}


def changed(spec: ResolvedSpec, *, limits: Limits | None = None, **method: Any) -> ResolvedSpec:
    params = type(spec.method)(**spec.method.model_dump() | method)
    return spec.model_copy(update={"method": params, "limits": limits or Limits()})


# Phases of the shared training.


def phases(steps: int, **options: Any) -> list[float | None]:
    """The least width at each step."""
    params = MutualNetParams(**{"full_first": 0.25, "lowering": 0.5, "widths": {"min": 0.5, "max": 1.0}, **options})
    schedule = Phases(params, steps)
    return [schedule.least(index) for index in range(steps)]


def test_full_network_trains_first_then_least_width_falls_linearly() -> None:
    least_widths = phases(16)
    assert least_widths[:4] == [None] * 4
    assert least_widths[4:12] == pytest.approx([1 - 0.5 * (i + 1) / 8 for i in range(8)])
    assert least_widths[12:] == [0.5] * 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"full_first": 0.0, "lowering": 0.0}, [0.5] * 4),
        ({"full_first": 0.0, "lowering": 1.0}, [0.875, 0.75, 0.625, 0.5]),
        ({"full_first": 1.0, "lowering": 0.0}, [None] * 4),
        ({"full_first": 0.5, "lowering": 0.0}, [None, None, 0.5, 0.5]),
        # A decrease shorter than one step disappears.
        ({"full_first": 0.25, "lowering": 0.2}, [None, 0.5, 0.5, 0.5]),
    ],
)
def test_phase_lengths_are_configurable(options: dict[str, Any], expected: list[float | None]) -> None:
    assert phases(4, **options) == expected


def test_phases_longer_than_the_training_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"lowering: 0.6 and full_first 0.5 together exceed the whole training"):
        MutualNetParams(full_first=0.5, lowering=0.6)


def test_default_phases_apply_to_fronts_but_not_to_boost() -> None:
    data = profile(images=6400)
    front = MutualNetParams(epochs=9, batch_size=64).resolved(data, None)
    assert (front.full_first, front.lowering, front.polish) == (0.5, 0.25, 300)
    longer = MutualNetParams(epochs=10, batch_size=64).resolved(data, None)
    assert (longer.full_first, longer.lowering) == (0.25, 0.25)
    partly = MutualNetParams(epochs=5, batch_size=64, lowering=0.6).resolved(data, None)
    assert (partly.full_first, partly.lowering) == (0.4, 0.6)
    mostly = MutualNetParams(epochs=5, batch_size=64, full_first=0.9).resolved(data, None)
    assert (mostly.full_first, round(mostly.lowering, 6)) == (0.9, 0.1)
    boosted = MutualNetParams(goal="boost").resolved(data, None)
    assert (boosted.full_first, boosted.lowering, boosted.polish) == (0.0, 0.0, 0)
    explicit = MutualNetParams(full_first=0.1, lowering=0.0, polish=7).resolved(data, None)
    assert (explicit.full_first, explicit.lowering, explicit.polish) == (0.1, 0.0, 7)


def test_phased_training_distills_only_after_the_first_phase(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    from paretofit.search.methods.mutualnet import train

    phased = changed(spec, full_first=0.5, lowering=0.25)
    recorder = Recorder(tmp_path)
    (tmp_path / "work").mkdir()
    params = plan(phased, []).trials[0].params
    trial = Trial(number=0, spec=phased, params=params, dataset=stripes, work=tmp_path / "work", seed=3)
    steps = int(train.run(trial, recorder)["steps"])
    losses = [recorder.metrics["distillation_loss", step] for step in range(1, steps + 1)]
    assert losses[: steps // 2] == [0.0] * (steps // 2)
    assert min(losses[steps // 2 :]) > 0


# The plan.


def record(number: int, state: TrialState, params: dict[str, Any]) -> TrialRecord:
    outputs: dict[str, Any] | None = None
    if state == "completed":
        outputs = {"epochs": float(params.get("epochs", 0))}
        outputs |= {"polish": CHOSEN} if params == SWEEP else {}
    return TrialRecord(number=number, state=state, params=params, outputs=outputs)


def run_plan(spec: ResolvedSpec, ends: TrialState = "completed") -> list[TrialRecord]:
    """History of a search by the service's rules, which create planned trials up to `max_trials`."""
    history: list[TrialRecord] = []
    while True:
        planned = plan(spec, history)
        room = math.inf if spec.limits.max_trials is None else spec.limits.max_trials - len(history)
        new = [trial for i, trial in enumerate(planned.trials) if i < room]
        if not new:
            assert planned.done or room <= 0
            return history
        for trial in new:
            state: TrialState = ends if trial.params["stage"] == "polish" else "completed"
            history.append(record(len(history), state, trial.params))


def test_networks_selected_by_the_sweep_are_polished(spec: ResolvedSpec) -> None:
    trained = [record(0, "completed", TRAIN)]
    second = plan(spec, trained)
    assert [trial.params for trial in second.trials] == [SWEEP]
    assert not second.done
    for state in ("queued", "running"):
        assert plan(spec, [*trained, record(1, state, SWEEP)]) == Plan()
    swept = [*trained, record(1, "completed", SWEEP)]
    last = plan(spec, swept)
    assert last.done
    assert [trial.params for trial in last.trials] == [
        {"stage": "polish", "config": config, "teacher": CONFIGS[-1], "epochs": 1.0} for config in CONFIGS[:NETWORKS]
    ]
    supernet = {"supernet": TrialArtifact(trial=1, artifact="supernet")}
    assert all(trial.inputs == supernet for trial in last.trials)


def test_each_network_is_polished_once(spec: ResolvedSpec) -> None:
    swept = [record(0, "completed", TRAIN), record(1, "completed", SWEEP)]
    planned = plan(spec, swept).trials
    for count in range(NETWORKS + 1):
        existing = [record(2 + i, "running", trial.params) for i, trial in enumerate(planned[:count])]
        assert plan(spec, [*swept, *existing]).trials == planned[count:]
    assert [trial.params["stage"] for trial in run_plan(spec)] == ["train", "sweep", *["polish"] * NETWORKS]
    assert len(run_plan(spec, ends="failed")) == 2 + NETWORKS


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_failed_sweep_is_not_followed_by_polishing(spec: ResolvedSpec, state: TrialState) -> None:
    assert plan(spec, [record(0, "completed", TRAIN), record(1, state, SWEEP)]) == Plan(done=True)


def test_search_without_polishing_ends_with_the_sweep(spec: ResolvedSpec) -> None:
    published = changed(spec, polish=0)
    assert plan(published, [record(0, "completed", TRAIN)]).done
    assert [trial.params["stage"] for trial in run_plan(published)] == ["train", "sweep"]
    assert budget.epochs(published).polished == 0


BASELINES = [{"width": 0.5, "resolution": 12}, {"resolution": 16}]


def test_baselines_take_precedence_over_polishing_under_trial_limits(spec: ResolvedSpec) -> None:
    compared = changed(spec, baselines=BASELINES)
    stages = [trial.params["stage"] for trial in run_plan(compared)]
    assert sorted(stages[2:]) == ["baseline"] * 2 + ["polish"] * NETWORKS
    for most, polished in ((2, 0), (3, 0), (4, 0), (5, 1), (6, 2), (7, 3), (20, 3)):
        limited = changed(spec, baselines=BASELINES, limits=Limits(max_trials=most))
        stages = [trial.params["stage"] for trial in run_plan(limited)]
        assert stages.count("polish") == polished
        assert len(stages) == min(most, 7)


@pytest.mark.parametrize("max_trials", [None, 2, 3, 4, 6])
@pytest.mark.parametrize("max_epochs", [*range(1, 14), 40])
@pytest.mark.parametrize("baselines", [[], BASELINES], ids=["without baselines", "with baselines"])
def test_limits_hold_for_all_trainings_in_total(
    spec: ResolvedSpec, max_trials: int | None, max_epochs: int, baselines: list[dict[str, Any]]
) -> None:
    limits = Limits(max_trials=max_trials, max_epochs=max_epochs)
    limited = changed(spec, epochs=4, baselines=baselines, polish=9, limits=limits)
    history = run_plan(limited)
    assert sum(trial.params.get("epochs", 0) for trial in history) <= max_epochs + 1e-9
    assert max_trials is None or len(history) <= max_trials
    assert [trial.params["stage"] for trial in history[:2]] == ["train", "sweep"]
    polished = [trial.params["epochs"] for trial in history if trial.params["stage"] == "polish"]
    assert all(0 < epochs <= 1.5 for epochs in polished)
    # Polishing takes at most a quarter of the epochs from other trainings.
    unpolished = changed(spec, epochs=4, baselines=baselines, polish=0, limits=limits)
    without = sum(trial.params.get("epochs", 0) for trial in run_plan(unpolished))
    trained = sum(trial.params["epochs"] for trial in history if trial.params["stage"] in ("train", "baseline"))
    assert trained >= min(without, math.floor(0.75 * max_epochs)) - len(baselines)


def test_planned_epochs_include_polishing(spec: ResolvedSpec) -> None:
    assert spec.params(SlimmableParams).polish_epochs(spec.dataset) == 1.0
    assert spec.method.planned_epochs(spec.dataset) == 2 + NETWORKS
    assert changed(spec, polish=0).method.planned_epochs(spec.dataset) == 2


# The polishing trial.


def test_loss_is_tempered_distillation_plus_half_the_cross_entropy(spec: ResolvedSpec) -> None:
    params = changed(spec, label_smoothing=0.1).params(SlimmableParams)
    torch.manual_seed(0)
    student = Slimmable(params.architecture(spec.dataset, 0.5)).double().train()
    teacher = build(params.architecture(spec.dataset, 1.0)).double().eval()
    batch = Batch(torch.randn(8, 1, 16, 16, dtype=torch.float64), torch.arange(8) % 3)
    losses = polish.step(student, teacher, params, (12, 12), (16, 16), 0, batch, lambda loss: loss)
    gradients = {name: p.grad.clone() for name, p in student.network.named_parameters() if p.grad is not None}
    student.zero_grad(set_to_none=True)

    def soft(logits: Tensor) -> Tensor:
        scaled = (logits / 2).exp()
        return scaled / scaled.sum(1, keepdim=True)

    small = F.interpolate(batch.images, (12, 12), mode="bilinear", align_corners=True)
    logits = student(small)
    p, q = soft(teacher(batch.images)).detach(), soft(logits)
    divergence = (p * (p.log() - q.log())).sum() / 8
    targets = 0.9 * F.one_hot(batch.labels, 3).double() + 0.1 / 3
    cross_entropy = -(targets * logits.log_softmax(1)).sum() / 8
    torch.autograd.backward(4 * divergence + 0.5 * cross_entropy)
    assert losses["distillation_loss"].item() == pytest.approx(divergence.item(), rel=1e-9)
    assert losses["loss"].item() == pytest.approx(cross_entropy.item(), rel=1e-9)
    assert gradients.keys() == dict(student.network.named_parameters()).keys()
    for name, parameter in student.network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-7, atol=1e-10)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.fixture
def polished(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> Path:
    """The folder of a complete search."""
    run_search(changed(spec, learning_rate=0.05), stripes, tmp_path / "search")
    return tmp_path / "search"


def test_polished_networks_are_reported_with_weights_and_gain(
    polished: Path, spec: ResolvedSpec, stripes: Path
) -> None:
    trials = json.loads((polished / "search.json").read_text())["trials"]
    swept = trials[1]["points"]
    polish_trials = [trial for trial in trials if trial["new"]["params"]["stage"] == "polish"]
    assert 1 <= len(polish_trials) <= NETWORKS
    for number, trial in enumerate(trials):
        if trial not in polish_trials:
            continue
        [point] = trial["points"].values()
        before = swept[point["key"].removesuffix("-polished")]
        assert point["key"] == f"{before['key']}-polished"
        assert (point["architecture"], point["input_size"]) == (before["architecture"], before["input_size"])
        gain = point["metrics"]["selection_top1"] - before["metrics"]["selection_top1"]
        assert point["metrics"]["polish_gain"] == pytest.approx(gain, abs=1e-9)
        assert trial["outputs"]["gain"] == point["metrics"]["polish_gain"]
        assert (trial["outputs"]["steps"], trial["outputs"]["planned_epochs"]) == (STEPS, 1.0)
        assert (point["provenance"]["epochs"], point["provenance"]["trial"]) == (1.0, number)
        assert {name: point["metrics"][name] for name in ("macs", "params")} == {
            name: before["metrics"][name] for name in ("macs", "params")
        }
        artifacts = polished / "trials" / str(number) / "artifacts"
        path = artifacts / f"{point['key']}.safetensors"
        assert reevaluate(path, Dataset.open(stripes)).equal
        shared = polished / "trials" / "1" / "artifacts" / f"{before['key']}.safetensors"
        polished_weights, shared_weights = checkpoint.read(path)[0], checkpoint.read(shared)[0]
        assert polished_weights.keys() == shared_weights.keys()
        assert not any(
            torch.equal(polished_weights[name], shared_weights[name])
            for name in polished_weights
            if name.endswith("conv1.weight")
        )


def first_polish(polished: Path, spec: ResolvedSpec, dataset: Path, work: Path, **changes: Any) -> Trial:
    """The first polishing trial of the search, to be run again."""
    trials = json.loads((polished / "search.json").read_text())["trials"]
    params = trials[2]["new"]["params"]
    assert params["stage"] == "polish"
    supernet = polished / "trials" / "1" / "artifacts" / "supernet"
    work.mkdir(parents=True)
    trial = Trial(number=2, spec=spec, params=params, dataset=dataset, work=work, seed=5, inputs={"supernet": supernet})
    return replace(trial, **changes)


def artifact(recorder: Recorder) -> bytes:
    [path] = recorder.artifacts.values()
    return path.read_bytes()


def test_drained_polish_resumes_bit_identically(
    polished: Path, spec: ResolvedSpec, stripes: Path, tmp_path: Path
) -> None:
    spec = changed(spec, ema_decay=0.9)
    uninterrupted = Recorder(tmp_path)
    outputs = polish.run(first_polish(polished, spec, stripes, tmp_path / "whole"), uninterrupted)
    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == 2 else Stop.NO)
    polish.run(first_polish(polished, spec, stripes, tmp_path / "a" / "work"), first)
    assert not first.points
    [(step, saved)] = first.checkpoints
    assert step == 2
    second = Recorder(tmp_path / "b")
    resumed = polish.run(first_polish(polished, spec, stripes, tmp_path / "b" / "work", checkpoint=saved), second)
    assert resumed == outputs
    assert artifact(second) == artifact(uninterrupted)


@pytest.mark.parametrize("stop", [Stop.CANCEL, Stop.LIMIT])
def test_stopped_polish_reports_a_point_only_at_a_limit(
    polished: Path, spec: ResolvedSpec, stripes: Path, tmp_path: Path, stop: Stop
) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: stop if checks >= 3 else Stop.NO)
    outputs = polish.run(first_polish(polished, spec, stripes, tmp_path / "a"), recorder)
    assert outputs["steps"] == 3
    assert len(recorder.points) == (stop is Stop.LIMIT)


def test_polish_learning_rate_does_not_depend_on_the_shared_training(
    polished: Path, spec: ResolvedSpec, stripes: Path, tmp_path: Path
) -> None:
    fast = changed(spec, learning_rate=3.0, warmup_epochs=1.0)
    recorder = Recorder(tmp_path)
    polish.run(first_polish(polished, fast, stripes, tmp_path / "a"), recorder)
    rates = [recorder.metrics["learning_rate", step] for step in range(1, STEPS + 1)]
    assert max(rates) <= 0.04 * 16 / 64
    assert rates == sorted(rates, reverse=True)


def test_unmeasured_teacher_is_calibrated(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    macs = sorted(candidate.cost["macs"] for candidate in spec.candidates())
    body = spec.model_dump(exclude={"latencies"}) | {"constraints": [{"metric": "macs", "value": macs[-2]}]}
    bounded = ResolvedSpec.model_validate(body)
    search = run_search(bounded, stripes, tmp_path)
    trials = json.loads((tmp_path / "search.json").read_text())["trials"]
    teachers = [trial["new"]["params"]["teacher"] for trial in trials[2:]]
    assert teachers
    assert all(teacher == {"width": 1.0, "resolution": 16} for teacher in teachers)
    assert all(point.metrics["macs"] <= macs[-2] for point in search.points())
    assert any(point.key.endswith("-polished") for point in search.points())
