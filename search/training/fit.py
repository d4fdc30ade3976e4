"""A network trained from the start or from a checkpoint, by the recipe of a method.

After running out of memory, with `batch_scale` of the batch and of the learning rate: the linear rule (Goyal et al.,
arXiv 1706.02677).
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from search.data.loader import TrainBatches
from search.data.store import Dataset
from search.methods.training import TrainingParams
from search.reporter import Reporter, Stop, Trial
from search.training import checkpoint, loop, precision
from search.training.average import Average
from search.training.optimizer import sgd
from search.training.parts import Passes, in_parts
from search.training.ranks import current
from search.training.weights import Weights


class Judge(Protocol):
    """Whoever may end a training before its end. `notes`, which are JSON, go into every checkpoint and come back from it."""

    notes: dict[str, Any]

    def halts(self, step: int, steps: int) -> bool:
        """Whether the training ends with `step` of its `steps`; asked after each one, on all ranks, with one answer."""


def fit(
    trial: Trial, reporter: Reporter, network: nn.Module, passes: Passes, epochs: int, judge: Judge | None = None
) -> tuple[dict[str, Any], Stop]:
    """Train `network` by the recipe of the trial's method, on all ranks; returns the trial's outputs and why it ended
    early.

    A drained training is checkpointed; any other but a cancelled one leaves the weights to evaluate. Raises ValueError
    for more ranks than a batch is enough for, CheckpointError, DivergedError.
    """
    params: TrainingParams = trial.spec.method
    device = torch.device(trial.device)
    batch_size = max(2, int(params.batch_size * trial.batch_scale))
    learning_rate = params.learning_rate * batch_size / params.batch_size
    ranks = current()
    if batch_size < 2 * ranks.count:
        raise ValueError(
            f"batch_size: {batch_size} on {ranks.count} ranks leaves one image to normalise by; use at least "
            f"{2 * ranks.count}"
        )
    ranks.align(list(network.parameters()))
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    network.train()
    weights = Weights(
        network=network,
        optimizer=sgd(
            network,
            learning_rate=learning_rate,
            momentum=params.momentum,
            weight_decay=params.weight_decay,
            decay=params.decay,
        ),
        scaler=precision.grad_scaler(precision.resolve(params.precision, device), device),
        average=None if params.ema_decay is None else Average(network, params.ema_decay),
    )
    batches = TrainBatches(
        Dataset.open(trial.dataset),
        batch_size=batch_size,
        recipe=params.augment(trial.spec.dataset),
        device=device,
        seed=trial.seed,
        share=(ranks.rank, ranks.count),
    )
    steps = epochs * batches.steps_per_epoch
    identity = _identity(trial, steps)
    start = 0
    if trial.checkpoint is not None:
        start, notes = checkpoint.restore(trial.checkpoint, weights, identity=identity)
        if judge is not None:
            judge.notes = notes
        sys.stderr.write(f"going on from step {start} of {steps}\n")

    def save(step: int) -> None:
        folder = trial.work / f"checkpoint-{step}"
        checkpoint.save(folder, weights, step=step, identity=identity, notes={} if judge is None else judge.notes)
        reporter.checkpoint(folder, step)

    done, stop = loop.train(
        loop.Schedule(
            steps=steps,
            peak=learning_rate,
            fall=params.schedule,
            # In proportion, where a limit shortens the training.
            warmup=round(params.warmup_epochs / params.epochs * steps),
            start=start,
            checkpoint_seconds=trial.checkpoint_seconds,
        ),
        batches.from_step(start),
        in_parts(
            passes,
            parts=min(params.accumulation, batch_size // ranks.count // 2),
            batch_size=batch_size,
            scaler=weights.scaler,
        ),
        weights,
        reporter,
        save,
        ranks,
        None if judge is None else partial(judge.halts, steps=steps),
    )
    if stop not in (Stop.CANCEL, Stop.DRAIN):
        weights.finish()
    return {"steps": done, "epochs": done / batches.steps_per_epoch, "batch_size": batch_size}, stop


def _identity(trial: Trial, steps: int) -> str:
    """What a checkpoint must agree in with the trial that goes on from it."""
    method, dataset = trial.spec.method.model_dump_json(), trial.spec.dataset.fingerprint
    what = json.dumps(trial.params, sort_keys=True)
    described = f"{method} {dataset} {what} {trial.seed} {steps} {trial.batch_scale:g}"
    return hashlib.sha256(described.encode()).hexdigest()
