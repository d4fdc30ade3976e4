"""Trial of the `steps` method: counts, saves checkpoints, reports."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from paretofit.models.finite import NonFiniteError
from paretofit.search.contracts.point import Evaluation, Point, Preprocessing
from paretofit.search.contracts.trial import Reporter, Stop, Trial, TrialEndedError
from tests.methods.steps.params import StepsParams


class NotLearningError(ValueError):
    """Same error code as the training guard's error."""

    code = "not_learning"


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Count from the checkpoint to `steps`; return the first and last step, and facts about the environment."""
    method = trial.spec.params(StepsParams)
    if method.fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    began = 0 if trial.checkpoint is None else int((trial.checkpoint / "step").read_text())
    sys.stdout.write(f"pid {os.getpid()} from step {began}\n")
    sys.stderr.write("a warning\0\n")
    step = began
    for step in range(began + 1, method.steps + 1):
        time.sleep(method.seconds)
        reporter.metric("loss", step, 1 / step)
        reporter.metric("progress", step, step / method.steps)
        if step == method.steps // 2:
            _fail(method.fault, reporter, trial)
        stop = Stop.NO if method.fault in {"deaf", "stubborn"} else reporter.should_stop()
        if stop is Stop.DRAIN or step % method.checkpoint_every == 0:
            folder = trial.work / f"checkpoint-{step}"
            folder.mkdir()
            (folder / "step").write_text(str(step))
            reporter.checkpoint(folder, step)
        if stop in {Stop.CANCEL, Stop.DRAIN}:
            return {}
        if stop is Stop.LIMIT:
            break
    before = {name: int(path.read_text()) for name, path in trial.inputs.items()}
    count = trial.work / "count"
    count.write_text(str(step + sum(before.values())))
    reporter.artifact("count", count)
    for index in range(method.points):
        reporter.point(point(trial, index, accuracy=0.5 + 0.1 * index))
    return {
        "began": began,
        "batch_scale": trial.batch_scale,
        "step": step,
        "before": before,
        "seed": trial.seed,
        "device": trial.device,
        "environment": sorted(os.environ),
        "threads": os.environ["OMP_NUM_THREADS"],
    }


def point(trial: Trial, index: int, accuracy: float) -> Point:
    """A point with the fields of a trained network."""
    profile = trial.spec.dataset
    return Point(
        key=f"net-{index}",
        architecture={"version": 1},
        input_size=profile.image_size,
        classes=profile.classes,
        config={"index": index},
        metrics={
            "selection_top1": accuracy,
            "macs": 1000.0 * (index + 1),
            "params": 10.0,
            "pool_inputs": 0.0,
            "peak_activation_bytes": 100.0,
        },
        preprocessing=Preprocessing(crop=profile.image_size, mean=profile.mean, std=profile.std),
        evaluation=Evaluation(device="cpu", batch_size=1, dtype="float32", memory_format="contiguous", threads=1),
        weights="count",
    )


def _fail(fault: str, reporter: Reporter, trial: Trial) -> None:
    if fault == "raise":
        # As in a message about a file whose name is not UTF-8.
        raise ArithmeticError("step sums to nothing\0\udcff")
    if fault == "diverge":
        raise NonFiniteError("training diverged: loss is nan at step 5; lower learning_rate")
    if fault == "memory_always" or (fault == "memory" and trial.batch_scale == 1):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")
    if fault == "hang" and trial.checkpoint is None:
        time.sleep(1000)
    if fault == "prune":
        raise TrialEndedError("pruned", {"dominated_by": 3})
    if fault == "infeasible":
        raise TrialEndedError("infeasible", {}, {"code": "infeasible", "detail": "the least is 7", "nearest": [7]})
    if fault == "not_learning" or (fault == "not_learning_first" and trial.number == 0):
        raise NotLearningError("the training accuracy stays at 14.0 %")
    if fault == "exit":
        os._exit(3)
    if fault == "nan":
        reporter.point(point(trial, 0, accuracy=float("nan")))
