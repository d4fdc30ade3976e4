"""The run of the chaos run's method: a chain of hashes, so that a step that was lost or done twice shows in the end."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from paretofit.search.contracts.point import Evaluation, Point, Preprocessing
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from tests.chaos import witness
from tests.chaos.method.params import WitnessedParams

WEIGHTS_BYTES = 128 * 1024
STATE_BYTES = 128 * 1024


def link(chain: str, step: int) -> str:
    """The chain after one more step."""
    return hashlib.sha256(f"{chain}{step}".encode()).hexdigest()


def chain_of(start: str, steps: int) -> str:
    """The expected outputs of a trial with so many steps, whatever faults it had."""
    for step in range(1, steps + 1):
        start = link(start, step)
    return start


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Go on from the checkpoint to `steps`; every step is written down before anything is reported of it."""
    method = trial.spec.params(WitnessedParams)
    # The supervisor names the scratch folder of an attempt after trial and epoch.
    diary = witness.Diary(Path(os.environ[witness.VARIABLE]) / trial.work.parent.name)
    step, chain = 0, "".join(path.read_text()[:64] for path in trial.inputs.values())
    if trial.checkpoint is not None:
        state = json.loads((trial.checkpoint / "state.json").read_text())
        step, chain = state["step"], state["chain"]
    print(f"pid {os.getpid()} goes on from step {step}", flush=True)  # noqa: T201 - the trial's log
    while step < method.steps:
        time.sleep(method.seconds)
        step += 1
        chain = link(chain, step)
        diary.write(step)
        reporter.metric("loss", step, 1 / step)
        reporter.metric("progress", step, step / method.steps)
        stop = reporter.should_stop()
        if stop is Stop.NO and step < method.steps and step % method.checkpoint_every == 0:
            stop = _checkpoint_for_good(trial, reporter, step, chain)
        if stop is Stop.DRAIN:
            _checkpoint(trial, reporter, step, chain)
        if stop in {Stop.CANCEL, Stop.DRAIN}:
            return {}
    weights = trial.work / "weights"
    weights.write_text(chain * (WEIGHTS_BYTES // len(chain)))
    reporter.artifact("weights", weights)
    reporter.point(_point(trial))
    return {"steps": step, "chain": chain}


def _checkpoint_for_good(trial: Trial, reporter: Reporter, step: int, chain: str) -> Stop:
    """Report a checkpoint and wait until it is committed, so that no crash after this call can lose a step before it.

    What is reported is written in order, and the folder of a checkpoint is taken when it is its turn: when the second
    folder is gone the first one is in the database. Returns early if a stop is asked for.
    """
    for _ in range(2):
        folder = _checkpoint(trial, reporter, step, chain)
        while folder.exists():
            stop = reporter.should_stop()
            if stop is not Stop.NO:
                return stop
            time.sleep(0.01)
    return reporter.should_stop()


def _checkpoint(trial: Trial, reporter: Reporter, step: int, chain: str) -> Path:
    folder = trial.work / f"checkpoint-{step}-{time.monotonic_ns()}"
    folder.mkdir()
    # Of this attempt alone: nobody else puts the same content into the store.
    (folder / "tensors").write_text(f"{trial.work}{step}\n" * (STATE_BYTES // len(f"{trial.work}{step}\n")))
    (folder / "state.json").write_text(json.dumps({"step": step, "chain": chain}))
    reporter.checkpoint(folder, step)
    return folder


def _point(trial: Trial) -> Point:
    profile = trial.spec.dataset
    return Point(
        key="net",
        architecture={"version": 1},
        input_size=profile.image_size,
        classes=profile.classes,
        config={"index": trial.number},
        metrics={
            "selection_top1": 0.5 + 0.01 * trial.number,
            "macs": 1000.0 * (trial.number + 1),
            "params": 10.0,
            "pool_inputs": 0.0,
            "peak_activation_bytes": 100.0,
        },
        preprocessing=Preprocessing(crop=profile.image_size, mean=profile.mean, std=profile.std),
        evaluation=Evaluation(device="cpu", batch_size=1, dtype="float32", memory_format="contiguous", threads=1),
        weights="weights",
    )
