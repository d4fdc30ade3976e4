"""Trainings that do not learn: recognized, started once more, then ended."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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
}
"""204 steps of a network without shortcuts."""
FIRST = 100
"""After these a training without warm-up is judged first."""
KILLS, WORKS = 1.0, 0.5
"""Learning rates: a third of the first is low enough."""


def resolved(stripes: Path, **changes: Any) -> ResolvedSpec:
    body = {"name": "stripes", "dataset_id": "local", "method": METHOD | changes}
    return SearchSpec.model_validate(body).resolve(Dataset.open(stripes).profile)


def verdict(**changes: Any) -> Verdict:
    """For 100 images of 4 classes, one of which has 40 of them, in a training that learned nothing."""
    given: dict[str, Any] = {"accuracy": 0.4, "majority": 0.4, "loss": 1.3, "prior": 1.3, "information": 0.1}
    return Verdict(**given | changes, images=100, classes=4)


@pytest.mark.parametrize(
    ("found", "collapsed", "learns"),
    [
        (verdict(), False, False),
        (verdict(information=0.0), True, False),
        (verdict(information=0.99e-3 * math.log(4)), True, False),
        (verdict(information=1.01e-3 * math.log(4)), False, False),
        # Two standard errors of the majority: .098.
        (verdict(accuracy=0.497), False, False),
        (verdict(accuracy=0.499), False, True),
        (verdict(loss=1.275), False, False),
        (verdict(loss=1.273), False, True),
        (verdict(accuracy=0.1, loss=5.0), False, False),
    ],
)
def test_a_verdict(found: Verdict, *, collapsed: bool, learns: bool) -> None:
    assert (found.collapsed, found.learns) == (collapsed, learns)


LABELS = torch.arange(200) % 4


def judged(answers: Tensor, *, steps: int = 1000, warmup: int = 50, labels: Tensor = LABELS) -> Guard:
    """Guard of a network whose logits are the images."""
    batch = Batch(answers, labels)
    return Guard(lambda images: images, batch, steps, warmup, classes=4)


def test_it_measures_what_the_answers_tell() -> None:
    one_hot = torch.nn.functional.one_hot(LABELS, 4).float()
    sure = judged(50 * one_hot).verdict()
    assert (sure.accuracy, sure.majority) == (1.0, 0.25)
    assert sure.information == pytest.approx(math.log(4), abs=1e-4)
    assert sure.prior == pytest.approx(math.log(4), abs=1e-4)
    assert sure.loss == pytest.approx(0.0, abs=1e-4)
    same = judged(torch.tensor([0.3, 2.0, -1.0, 0.0]).repeat(200, 1)).verdict()
    assert same.information == pytest.approx(0.0, abs=1e-6)
    assert same.collapsed
    assert same.accuracy == 0.25
    imbalanced = torch.tensor([0] * 150 + [1] * 50)
    frequencies = judged(torch.tensor([0.75, 0.25, 1e-9, 1e-9]).log().repeat(200, 1), labels=imbalanced).verdict()
    assert frequencies.loss == pytest.approx(frequencies.prior, abs=1e-4)
    assert (frequencies.accuracy, frequencies.majority, frequencies.learns) == (0.75, 0.75, False)


def test_it_is_judged_after_the_warm_up_and_at_later_parts() -> None:
    found = judged(torch.zeros(200, 4))
    assert [step for step in range(1, 1001) if found.due(step)] == [150, 350, 650, 1000]
    long_warmup = judged(torch.zeros(200, 4), steps=200, warmup=80)
    assert [step for step in range(1, 201) if long_warmup.due(step)] == [180, 200]


def test_before_the_later_parts_only_a_collapse_ends_it() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = judged(torch.randn(200, 4, generator=generator))
    assert not noise.verdict().learns
    assert not noise.verdict().collapsed
    assert [noise.should_stop(step) for step in (150, 350, 1000)] == [False, True, True]
    collapsed = judged(torch.zeros(200, 4))
    assert collapsed.should_stop(150)


def test_the_errors_have_codes() -> None:
    assert code_of(NotLearningError("x")) == "not_learning"
    assert code_of(BelowStartError("x")) == "below_start"


def test_a_collapsed_training_begins_once_more_at_a_third_of_its_learning_rate(
    stripes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = resolved(stripes, learning_rate=KILLS)
    recorder = Recorder(tmp_path)
    outputs = run(first_trial(spec, stripes, tmp_path, None), recorder)
    assert (outputs["restarts"], outputs["steps"], outputs["epochs"]) == (1, 204, 34.0)
    rates = [recorder.metrics["learning_rate", step] for step in range(2, 205, 2)]
    assert max(rates) <= KILLS / 3
    [point] = recorder.points
    assert point.metrics["selection_top1"] > 0.6
    assert f"restarting at learning_rate {KILLS / 3:g}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "steps"),
    [({"learning_rate": 10.0}, FIRST), ({"learning_rate": 1e-9}, FIRST)],
    ids=["collapses", "stands still"],
)
def test_a_training_that_never_learns_fails(stripes: Path, tmp_path: Path, changes: dict[str, Any], steps: int) -> None:
    recorder = Recorder(tmp_path)
    with pytest.raises(
        NotLearningError, match=rf"learned nothing .* in {steps} steps, even at learning_rate .* start from"
    ):
        run(first_trial(resolved(stripes, **changes), stripes, tmp_path, None), recorder)
    assert not recorder.points
    assert not recorder.artifacts


def weights(recorder: Recorder) -> dict[str, Tensor]:
    return checkpoint.read(recorder.artifacts["network.safetensors"])[0]


def test_a_healthy_training_is_not_disturbed(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit."""
    spec = resolved(stripes, learning_rate=WORKS)

    def limited(checks: int) -> Stop:
        return Stop.LIMIT if checks >= FIRST + 10 else Stop.NO

    guarded = Recorder(tmp_path, stop=limited)
    outputs = run(first_trial(spec, stripes, tmp_path, None), guarded)
    assert "restarts" not in outputs
    monkeypatch.setattr(guard, "LEAST_STEPS", 10**6)
    folder = tmp_path / "unguarded"
    folder.mkdir()
    unguarded = Recorder(folder, stop=limited)
    assert run(first_trial(spec, stripes, folder, None), unguarded) == outputs
    expected = weights(unguarded)
    assert all(torch.equal(value, expected[name]) for name, value in weights(guarded).items())


def test_short_trainings_are_not_judged(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, learning_rate=10.0, epochs=(LEAST_STEPS - 1) // 6)
    outputs = run(first_trial(spec, stripes, tmp_path, None), Recorder(tmp_path))
    assert outputs["steps"] < LEAST_STEPS
    assert "restarts" not in outputs


@pytest.mark.parametrize("drained", [40, FIRST + 8], ids=["before the restart", "after it"])
def test_a_restart_survives_a_drain_bit_for_bit(stripes: Path, tmp_path: Path, drained: int) -> None:
    spec = resolved(stripes, learning_rate=KILLS, ema_decay=0.9, pruning={"fractions": [0.05]})
    end = FIRST + 20
    whole = Recorder(tmp_path / "whole", stop=lambda checks: Stop.LIMIT if checks >= end else Stop.NO)
    outputs = run(first_trial(spec, stripes, tmp_path / "whole", None), whole)
    assert (outputs["restarts"], outputs["steps"]) == (1, end - FIRST)
    assert len(outputs["compared"]) == 1

    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == drained else Stop.NO)
    run(first_trial(spec, stripes, tmp_path / "a", None), first)
    [(step, kept)] = first.checkpoints
    assert step == drained % FIRST
    notes = json.loads((kept / "manifest.json").read_text())["notes"]
    assert notes["restarts"] == (drained > FIRST)
    second = Recorder(tmp_path / "b", stop=lambda checks: Stop.LIMIT if checks >= end - drained else Stop.NO)
    assert run(first_trial(spec, stripes, tmp_path / "b", None, checkpoint=kept), second) == outputs
    expected = weights(whole)
    found = weights(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_after_a_drain_a_second_collapse_still_fails(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, learning_rate=10.0)
    drained = FIRST + 8
    first = Recorder(tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == drained else Stop.NO)
    run(first_trial(spec, stripes, tmp_path / "a", None), first)
    [(_, kept)] = first.checkpoints
    with pytest.raises(NotLearningError):
        run(first_trial(spec, stripes, tmp_path / "b", None, checkpoint=kept), Recorder(tmp_path / "b"))


def test_a_divergence_begins_once_more_only_where_it_is_guarded(stripes: Path, tmp_path: Path) -> None:
    """The loss is made infinite until the learning rate has been lowered."""
    from paretofit.search.training import standalone
    from paretofit.search.training.loop import DivergedError

    spec = resolved(stripes, learning_rate=0.3)

    def attempted(folder: Path, predict: Any) -> tuple[dict[str, Any], Stop]:
        recorder = Recorder(folder, stop=lambda checks: Stop.LIMIT if checks >= 12 else Stop.NO)
        trial = first_trial(spec, stripes, folder, None)
        network = standalone.initial(trial, spec.method.network(spec.dataset, trial.params["config"]))
        begun: list[int] = []

        def passes(index: int, batch: Batch, scale: Any) -> dict[str, Tensor]:
            losses = standalone.step(network, spec.params(TrainingParams), (8, 8), index, batch, scale)
            begun.append(index)
            return {"loss": losses["loss"] * (math.inf if begun.count(0) == 1 and index == 3 else 1)}

        return fit(trial, recorder, network, passes, 34, predict=predict)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    outputs, _ = attempted(tmp_path / "a", lambda images: images.flatten(1)[:, :3])
    assert outputs["restarts"] == 1
    with pytest.raises(DivergedError, match="lower learning_rate"):
        attempted(tmp_path / "b", None)


@pytest.mark.integration
def test_ranks_restart_and_fail_together(stripes: Path, tmp_path: Path) -> None:
    """Otherwise one of them would wait for the other for ever. Only the first rank judges."""
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump({"dataset": str(stripes), "method": METHOD | {"learning_rate": 10.0}}))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "paretofit.search", "run", str(file), "--out", str(out), "--ranks", "2", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert ended.returncode == 1
    assert "no network was found: trial 0 failed: the training learned nothing" in ended.stderr
    assert ended.stderr.count("restarting at learning_rate 3.33333") == 2
    [trial] = json.loads((out / "search.json").read_text())["trials"]
    assert (trial["state"], trial["error"]["code"]) == ("failed", "not_learning")
