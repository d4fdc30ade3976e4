"""The training stage: reports, stopping, and resuming with identical results."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paretofit.search import registry
from paretofit.search.contracts.spec import Limits, ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.search.methods.mutualnet import supernet, train
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.plan import plan
from paretofit.search.training.loop import DivergedError
from paretofit.search.training.state import CheckpointError
from tests.search.recorder import Recorder

STEPS = 12
"""Two epochs of 96 images in batches of 16."""
DRAINED = 8


def trial(spec: ResolvedSpec, dataset: Path, folder: Path, **changes: Any) -> Trial:
    work = folder / "work"
    work.mkdir(parents=True)
    [planned] = plan(spec, []).trials
    # The long interval prevents extra checkpoints on slow machines.
    default = Trial(
        number=0, spec=spec, params=planned.params, dataset=dataset, work=work, seed=3, checkpoint_seconds=3600
    )
    return replace(default, **changes)


def test_training_reports_curves_progress_and_the_supernet(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    outputs = train.run(trial(spec, stripes, tmp_path), recorder)
    assert outputs == {"steps": STEPS, "epochs": 2.0, "planned_epochs": 2, "batch_size": 16}
    for name in ("loss", "distillation_loss", "learning_rate", "images_per_second"):
        assert sum(metric == name for metric, _ in recorder.metrics) == STEPS
    assert recorder.metrics["progress", STEPS] == 1.0
    assert recorder.metrics["learning_rate", 1] == spec.params(SlimmableParams).learning_rate
    network = supernet.load(recorder.artifacts["supernet"])
    assert network.architecture == spec.params(SlimmableParams).architecture(spec.dataset)
    assert not network.training


def test_max_epochs_shortens_the_schedule(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    short = spec.model_copy(update={"limits": Limits(max_epochs=1)})
    assert train.run(trial(short, stripes, tmp_path), recorder)["steps"] == STEPS // 2
    assert recorder.metrics["learning_rate", STEPS // 2] < 0.1 * spec.params(SlimmableParams).learning_rate


def test_smaller_batch_gives_more_and_smaller_steps(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    outputs = train.run(trial(spec, stripes, tmp_path, batch_scale=0.5), recorder)
    assert outputs == {"steps": 2 * STEPS, "epochs": 2.0, "planned_epochs": 2, "batch_size": 8}
    assert recorder.metrics["learning_rate", 1] == spec.params(SlimmableParams).learning_rate / 2


def test_cancel_ends_the_training_immediately(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.CANCEL if checks == 3 else Stop.NO)
    assert train.run(trial(spec, stripes, tmp_path), recorder)["steps"] == 3
    assert not recorder.artifacts
    assert not recorder.checkpoints


def test_limit_ends_training_with_the_current_weights(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.LIMIT if checks >= 5 else Stop.NO)
    assert train.run(trial(spec, stripes, tmp_path), recorder)["steps"] == 5
    assert "supernet" in recorder.artifacts


def test_divergence_is_reported(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    method = spec.method.model_copy(update={"learning_rate": 1e30, "epochs": 20})
    with pytest.raises(DivergedError, match=r"training diverged: .* lower learning_rate"):
        train.run(trial(spec.model_copy(update={"method": method}), stripes, tmp_path), Recorder(tmp_path))


def test_checkpoint_of_another_training_is_rejected(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.DRAIN if checks == 2 else Stop.NO)
    train.run(trial(spec, stripes, tmp_path), recorder)
    [(step, saved)] = recorder.checkpoints
    assert step == 2
    with pytest.raises(CheckpointError, match="another training"):
        train.run(trial(spec, stripes, tmp_path / "b", checkpoint=saved, seed=4), recorder)
    state = saved / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="is an incomplete checkpoint"):
        train.run(trial(spec, stripes, tmp_path / "cut", checkpoint=saved), recorder)
    (saved / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="is an incomplete checkpoint"):
        train.run(trial(spec, stripes, tmp_path / "c", checkpoint=saved), recorder)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param(
            {
                "accumulation": 3,
                "ema_decay": 0.9,
                "label_smoothing": 0.1,
                "precision": "float16",
                "warmup_epochs": 1.75,
            },
            id="every_option",
            # Half precision takes minutes without a GPU.
            marks=pytest.mark.slow,
        ),
    ],
)
def test_resumed_training_is_bit_identical(
    spec: ResolvedSpec, stripes: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    spec = spec.model_copy(update={"method": type(spec.method)(**spec.method.model_dump() | options)})
    uninterrupted = Recorder(tmp_path)
    train.run(trial(spec, stripes, tmp_path), uninterrupted)
    first = Recorder(tmp_path, stop=lambda checks: Stop.DRAIN if checks == DRAINED else Stop.NO)
    train.run(trial(spec, stripes, tmp_path / "first"), first)
    assert not first.artifacts
    [(step, saved)] = first.checkpoints
    assert step == DRAINED

    method = spec.method.model_dump(mode="json")
    resumed = _resume_in_new_process(method, stripes, tmp_path / "second", saved)
    losses = {step: value for (name, step), value in uninterrupted.metrics.items() if name == "loss" and step > DRAINED}
    assert {int(step): value for step, value in resumed["loss"].items()} == losses
    expected = supernet.load(uninterrupted.artifacts["supernet"]).state()
    state = supernet.load(Path(resumed["supernet"])).state()
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[name], state[name]) for name in expected)


def test_learning_rate_warms_up(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    warming = spec.model_copy(update={"method": spec.method.model_copy(update={"warmup_epochs": 0.5})})
    recorder = Recorder(tmp_path)
    train.run(trial(warming, stripes, tmp_path), recorder)
    rates = [recorder.metrics["learning_rate", step] for step in range(1, STEPS + 1)]
    assert rates[:4] == pytest.approx([spec.params(SlimmableParams).learning_rate * part / 4 for part in range(1, 5)])
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_averaged_weights_are_saved(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    results = {}
    for decay in (0.0, 0.9):
        folder = tmp_path / str(decay)
        recorder = Recorder(folder)
        averaging = spec.model_copy(update={"method": spec.method.model_copy(update={"ema_decay": decay})})
        train.run(trial(averaging, stripes, folder), recorder)
        results[decay] = (supernet.load(recorder.artifacts["supernet"]).state(), recorder.metrics["loss", STEPS])
    (last, loss), (average, same_loss) = results[0.0], results[0.9]
    assert loss == same_loss  # The loss of the weights in training, not of their average.
    assert not any(torch.equal(last[name], average[name]) for name in last)


def _resume_in_new_process(method: dict[str, Any], dataset: Path, folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Resume in a separate process on one thread."""
    order = {"method": method, "dataset": str(dataset), "folder": str(folder), "checkpoint": str(checkpoint)}
    command = [sys.executable, "-m", __name__, json.dumps(order)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def _main(order: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    registry.setup()
    folder, dataset = Path(order["folder"]), Path(order["dataset"])
    submitted = SearchSpec.model_validate({"name": "stripes", "dataset_id": "local", "method": order["method"]})
    spec = submitted.resolve(Dataset.open(dataset).profile)
    recorder = Recorder(folder)
    train.run(trial(spec, dataset, folder, checkpoint=Path(order["checkpoint"])), recorder)
    losses = {step: value for (name, step), value in recorder.metrics.items() if name == "loss"}
    sys.stdout.write(json.dumps({"supernet": str(recorder.artifacts["supernet"]), "loss": losses}))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
