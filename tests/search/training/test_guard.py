"""Trainings that do not learn are detected, restarted once, and then failed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from paretofit.models import checkpoint
from paretofit.search.contracts.failures import code_of
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.loader import Batch
from paretofit.search.data.store import Dataset
from paretofit.search.methods.fd_mobilenet.run import run
from paretofit.search.training import guard
from paretofit.search.training.guard import LEAST_STEPS, BelowStartError, Guard, NotLearningError, Verdict
from paretofit.search.training.params import TrainingParams
from paretofit.search.training.trainer import fit
from tests.search.recorder import Recorder
from tests.search.starts import first_trial

METHOD: dict[str, Any] = {
    "kind": "fd_mobilenet",
    "families": ["vgg16"],
    "widths": [0.05],
    "resolutions": [8],
    "trials": 1,
    "pruning": {"fractions": []},
    "epochs": 34,
    "warmup_epochs": 0,
    "batch_size": 16,
    "calibration_images": 64,
    "augmentation": {"kind": "pad_crop", "padding": 2, "padding_mode": "reflect"},
}
"""204 steps of a network without shortcuts."""
FIRST_CHECK = 100
"""Steps before the first check of a training without warm-up."""
COLLAPSING, STABLE = 1.0, 0.5
"""Learning rates: the first collapses the training, but a third of it is low enough."""


def resolved(stripes: Path, **changes: Any) -> ResolvedSpec:
    body = {"name": "stripes", "dataset_id": "local", "method": METHOD | changes}
    return SearchSpec.model_validate(body).resolve(Dataset.open(stripes).profile)


def verdict(**changes: Any) -> Verdict:
    """A verdict for 100 images of 4 classes, 40 in one class; by default without training progress."""
    fields: dict[str, Any] = {"accuracy": 0.4, "majority": 0.4, "loss": 1.3, "prior": 1.3, "information": 0.1}
    return Verdict(**fields | changes, images=100, classes=4)


@pytest.mark.parametrize(
    ("measured", "collapsed", "learns"),
    [
        (verdict(), False, False),
        (verdict(information=0.0), True, False),
        (verdict(information=0.99e-3 * math.log(4)), True, False),
        (verdict(information=1.01e-3 * math.log(4)), False, False),
        # Two standard errors of the majority class are 0.098.
        (verdict(accuracy=0.497), False, False),
        (verdict(accuracy=0.499), False, True),
        (verdict(loss=1.275), False, False),
        (verdict(loss=1.273), False, True),
        (verdict(accuracy=0.1, loss=5.0), False, False),
    ],
)
def test_verdict_classification(measured: Verdict, *, collapsed: bool, learns: bool) -> None:
    assert (measured.collapsed, measured.learns) == (collapsed, learns)


LABELS = torch.arange(200) % 4


def make_guard(logits: Tensor, *, steps: int = 1000, warmup: int = 50, labels: Tensor = LABELS) -> Guard:
    """Guard of a network that returns its images as logits."""
    batch = Batch(logits, labels)
    return Guard(lambda images: images, batch, steps, warmup, classes=4)


def test_verdict_measures_accuracy_loss_and_information() -> None:
    one_hot = torch.nn.functional.one_hot(LABELS, 4).float()
    sure = make_guard(50 * one_hot).verdict()
    assert (sure.accuracy, sure.majority) == (1.0, 0.25)
    assert sure.information == pytest.approx(math.log(4), abs=1e-4)
    assert sure.prior == pytest.approx(math.log(4), abs=1e-4)
    assert sure.loss == pytest.approx(0.0, abs=1e-4)
    same = make_guard(torch.tensor([0.3, 2.0, -1.0, 0.0]).repeat(200, 1)).verdict()
    assert same.information == pytest.approx(0.0, abs=1e-6)
    assert same.collapsed
    assert same.accuracy == 0.25
    imbalanced = torch.tensor([0] * 150 + [1] * 50)
    frequencies = make_guard(torch.tensor([0.75, 0.25, 1e-9, 1e-9]).log().repeat(200, 1), labels=imbalanced).verdict()
    assert frequencies.loss == pytest.approx(frequencies.prior, abs=1e-4)
    assert (frequencies.accuracy, frequencies.majority, frequencies.learns) == (0.75, 0.75, False)


def test_rare_classes_are_sampled_so_that_a_perfect_network_passes() -> None:
    labels = np.array([0] * 970 + [1] * 8)
    # As trained with the default label smoothing: certain to 95 %.
    smoothed = torch.tensor([[0.95, 0.05], [0.05, 0.95]]).log()
    for seed in range(20):
        rows = guard.sample(labels, 2, seed)
        assert len(set(rows.tolist())) == guard.IMAGES
        found = torch.from_numpy(labels[rows])
        assert found.sum() == 8
        perfect = Guard(lambda images: images, Batch(smoothed[found], found), 1000, 50, classes=2).verdict()
        assert perfect.learns
        assert not perfect.collapsed


def test_sample_of_balanced_classes_is_uniform() -> None:
    labels = np.arange(3000) % 3
    drawn = np.random.default_rng(7).permutation(3000)[: guard.IMAGES]
    assert guard.sample(labels, 3, 7).tolist() == sorted(drawn.tolist())
    assert guard.sample(labels[:30], 3, 7).tolist() == list(range(30))


def test_checks_are_due_after_warmup_and_at_later_fractions() -> None:
    guard = make_guard(torch.zeros(200, 4))
    assert [step for step in range(1, 1001) if guard.due(step)] == [150, 350, 650, 1000]
    long_warmup = make_guard(torch.zeros(200, 4), steps=200, warmup=80)
    assert [step for step in range(1, 201) if long_warmup.due(step)] == [180, 200]


def test_only_a_collapse_stops_at_the_first_check() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = make_guard(torch.randn(200, 4, generator=generator))
    assert not noise.verdict().learns
    assert not noise.verdict().collapsed
    assert [noise.should_stop(step) for step in (150, 350, 1000)] == [False, True, True]
    collapsed = make_guard(torch.zeros(200, 4))
    assert collapsed.should_stop(150)


def test_guard_errors_have_codes() -> None:
    assert code_of(NotLearningError("x")) == "not_learning"
    assert code_of(BelowStartError("x")) == "below_start"


def test_collapsed_training_restarts_at_a_third_of_the_learning_rate(
    stripes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = resolved(stripes, learning_rate=COLLAPSING)
    recorder = Recorder(tmp_path)
    outputs = run(first_trial(spec, stripes, tmp_path, None), recorder)
    assert (outputs["restarts"], outputs["steps"], outputs["epochs"]) == (1, 204, 34.0)
    rates = [recorder.metrics["learning_rate", step] for step in range(2, 205, 2)]
    assert max(rates) <= COLLAPSING / 3
    [point] = recorder.points
    assert point.metrics["selection_top1"] > 0.6
    assert f"restarting at learning_rate {COLLAPSING / 3:g}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "steps"),
    [({"learning_rate": 10.0}, FIRST_CHECK), ({"learning_rate": 1e-9}, FIRST_CHECK)],
    ids=["collapses", "stagnates"],
)
def test_training_that_never_learns_fails(stripes: Path, tmp_path: Path, changes: dict[str, Any], steps: int) -> None:
    recorder = Recorder(tmp_path)
    with pytest.raises(
        NotLearningError, match=rf"learned nothing .* in {steps} steps, even at learning_rate .* start from"
    ):
        run(first_trial(resolved(stripes, **changes), stripes, tmp_path, None), recorder)
    assert not recorder.points
    assert not recorder.artifacts


def weights(recorder: Recorder) -> dict[str, Tensor]:
    return checkpoint.read(recorder.artifacts["network.safetensors"])[0]


def test_guard_does_not_change_a_healthy_training(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are bit-identical with and without the guard."""
    spec = resolved(stripes, learning_rate=STABLE)

    def limited(checks: int) -> Stop:
        return Stop.LIMIT if checks >= FIRST_CHECK + 10 else Stop.NO

    limited_run = Recorder(tmp_path, stop=limited)
    outputs = run(first_trial(spec, stripes, tmp_path, None), limited_run)
    assert "restarts" not in outputs
    monkeypatch.setattr(guard, "LEAST_STEPS", 10**6)
    folder = tmp_path / "unlimited_run"
    folder.mkdir()
    unlimited_run = Recorder(folder, stop=limited)
    assert run(first_trial(spec, stripes, folder, None), unlimited_run) == outputs
    expected = weights(unlimited_run)
    assert all(torch.equal(value, expected[name]) for name, value in weights(limited_run).items())


def test_short_trainings_are_not_checked(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, learning_rate=10.0, epochs=(LEAST_STEPS - 1) // 6)
    outputs = run(first_trial(spec, stripes, tmp_path, None), Recorder(tmp_path))
    assert outputs["steps"] < LEAST_STEPS
    assert "restarts" not in outputs


@pytest.mark.parametrize("drained", [40, FIRST_CHECK + 8], ids=["before restart", "after restart"])
def test_restart_resumes_bit_identically_after_a_drain(stripes: Path, tmp_path: Path, drained: int) -> None:
    spec = resolved(stripes, learning_rate=COLLAPSING, ema_decay=0.9, pruning={"fractions": [0.05]})
    end = FIRST_CHECK + 20
    uninterrupted = Recorder(tmp_path / "whole", stop=lambda checks: Stop.LIMIT if checks >= end else Stop.NO)
    outputs = run(first_trial(spec, stripes, tmp_path / "whole", None), uninterrupted)
    assert (outputs["restarts"], outputs["steps"]) == (1, end - FIRST_CHECK)
    assert len(outputs["compared"]) == 1

    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == drained else Stop.NO)
    run(first_trial(spec, stripes, tmp_path / "a", None), first)
    [(step, saved)] = first.checkpoints
    assert step == drained % FIRST_CHECK
    notes = json.loads((saved / "manifest.json").read_text())["notes"]
    assert notes["restarts"] == (drained > FIRST_CHECK)
    second = Recorder(tmp_path / "b", stop=lambda checks: Stop.LIMIT if checks >= end - drained else Stop.NO)
    assert run(first_trial(spec, stripes, tmp_path / "b", None, checkpoint=saved), second) == outputs
    expected = weights(uninterrupted)
    resumed = weights(second)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_second_collapse_fails_after_a_drain(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, learning_rate=10.0)
    drained = FIRST_CHECK + 8
    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == drained else Stop.NO)
    run(first_trial(spec, stripes, tmp_path / "a", None), first)
    [(_, saved)] = first.checkpoints
    with pytest.raises(NotLearningError):
        run(first_trial(spec, stripes, tmp_path / "b", None, checkpoint=saved), Recorder(tmp_path / "b"))


def test_divergence_restarts_only_with_a_guard(stripes: Path, tmp_path: Path) -> None:
    """The loss is infinite until the learning rate is lowered."""
    from paretofit.search.training import standalone
    from paretofit.search.training.loop import DivergedError

    spec = resolved(stripes, learning_rate=0.3)

    def attempt(folder: Path, predict: Any) -> tuple[dict[str, Any], Stop]:
        recorder = Recorder(folder, stop=lambda checks: Stop.LIMIT if checks >= 12 else Stop.NO)
        trial = first_trial(spec, stripes, folder, None)
        network = standalone.initial(trial, spec.method.network(spec.dataset, trial.params["config"]))
        steps: list[int] = []

        def passes(index: int, batch: Batch, scale: Any) -> dict[str, Tensor]:
            losses = standalone.step(network, spec.params(TrainingParams), (8, 8), index, batch, scale)
            steps.append(index)
            return {"loss": losses["loss"] * (math.inf if steps.count(0) == 1 and index == 3 else 1)}

        return fit(trial, recorder, network, passes, 34, predict=predict)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    outputs, _ = attempt(tmp_path / "a", lambda images: images.flatten(1)[:, :3])
    assert outputs["restarts"] == 1
    with pytest.raises(DivergedError, match="lower learning_rate"):
        attempt(tmp_path / "b", None)


@pytest.mark.integration
def test_ranks_restart_and_fail_synchronously(stripes: Path, tmp_path: Path) -> None:
    """Only the first rank decides; ranks that disagree would wait for each other forever."""
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump({"dataset": str(stripes), "method": METHOD | {"learning_rate": 10.0}}))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "paretofit.search", "run", str(file), "--out", str(out), "--ranks", "2", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert process.returncode == 1
    assert "no network was found: trial 0 failed: the training learned nothing" in process.stderr
    assert process.stderr.count("restarting at learning_rate 3.33333") == 2
    [trial] = json.loads((out / "search.json").read_text())["trials"]
    assert (trial["state"], trial["error"]["code"]) == ("failed", "not_learning")
