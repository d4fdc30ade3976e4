"""The trials of the method of the chaos run: a chain of hashes, whose result reveals lost and repeated steps."""

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
    """Extend the chain by one step."""
    return hashlib.sha256(f"{chain}{step}".encode()).hexdigest()


def chain_of(start: str, steps: int) -> str:
    """The chain that a trial with this number of steps must return, regardless of faults."""
    for step in range(1, steps + 1):
        start = link(start, step)
    return start


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Continue from the checkpoint to `steps`. Every step is written to the diary before it is reported."""
    method = trial.spec.params(WitnessedParams)
    # The supervisor names the scratch folder of an attempt after trial and epoch.
    diary = witness.Diary(Path(os.environ[witness.VARIABLE]) / trial.work.parent.name)
    step, chain = 0, "".join(path.read_text()[:64] for path in trial.inputs.values())
    if trial.checkpoint is not None:
        state = json.loads((trial.checkpoint / "state.json").read_text())
        step, chain = state["step"], state["chain"]
    print(f"pid {os.getpid()} continues from step {step}", flush=True)  # noqa: T201 - the trial's log
    while step < method.steps:
        time.sleep(method.seconds)
        step += 1
        chain = link(chain, step)
        diary.write(step)
        reporter.metric("loss", step, 1 / step)
        reporter.metric("progress", step, step / method.steps)
        stop = reporter.should_stop()
        if stop is Stop.NO and step < method.steps and step % method.checkpoint_every == 0:
            stop = _commit_checkpoint(trial, reporter, step, chain)
        if stop is Stop.DRAIN:
            _checkpoint(trial, reporter, step, chain)
        if stop in {Stop.CANCEL, Stop.DRAIN}:
            return {}
    weights = trial.work / "weights"
    weights.write_text(chain * (WEIGHTS_BYTES // len(chain)))
    reporter.artifact("weights", weights)
    reporter.point(_point(trial))
    return {"steps": step, "chain": chain}


def _commit_checkpoint(trial: Trial, reporter: Reporter, step: int, chain: str) -> Stop:
    """Report a checkpoint and wait until it is committed, so that no crash after this call can lose a step before it.

    Reports are written in order, and the folder of a checkpoint is moved when it is written: when the second folder is
    gone, the first checkpoint is in the database. Returns early if a stop is requested.
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
    # The content is unique to this attempt, so no other attempt stores the same blob.
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
