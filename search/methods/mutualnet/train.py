"""Stage 1: train one network for all widths and resolutions.

After running out of memory, with `batch_scale` of the batch and of the learning rate: the linear rule (Goyal et al.,
arXiv 1706.02677).
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from models.layers.slimmable import Slimmable
from search.data.loader import Batch, TrainBatches
from search.data.store import Dataset
from search.methods.method import DatasetProfile
from search.methods.mutualnet import budget, supernet
from search.methods.mutualnet.forward import Forward
from search.methods.mutualnet.params import SlimmableParams
from search.methods.mutualnet.plan import SUPERNET
from search.reporter import Reporter, Stop, Trial
from search.training import checkpoint, loop, precision, sandwich
from search.training.average import Average
from search.training.optimizer import sgd
from search.training.parts import Passes, Scale, in_parts
from search.training.ranks import current
from search.training.weights import Weights


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train from the start or from a checkpoint; report curves and the artifact `supernet`."""
    params: SlimmableParams = trial.spec.method
    profile = trial.spec.dataset
    torch.manual_seed(trial.seed)
    network = Slimmable(params.architecture(profile, params.widths.max), trial.device)
    passes = partial(step, network, params, profile, trial.seed)
    outputs, stop = fit(
        trial, reporter, network, passes, budget.epochs(trial.spec, trial.spec.limits.max_epochs).shared
    )
    if current().rank == 0 and stop not in (Stop.CANCEL, Stop.DRAIN):
        path = trial.work / "supernet.safetensors"
        supernet.save(path, network)
        reporter.artifact(SUPERNET, path)
    return outputs | {"planned_epochs": params.epochs}


def fit(
    trial: Trial, reporter: Reporter, network: Slimmable, passes: Passes, epochs: int
) -> tuple[dict[str, Any], Stop]:
    """Train `network` by the recipe of the trial's method, on all ranks; returns the trial's outputs and why it ended
    early.

    A drained training is checkpointed; any other but a cancelled one leaves the weights to evaluate. Raises ValueError
    for more ranks than a batch is enough for, CheckpointError, DivergedError.
    """
    params: SlimmableParams = trial.spec.method
    device = torch.device(trial.device)
    batch_size = max(2, int(params.batch_size * trial.batch_scale))
    learning_rate = params.learning_rate * batch_size / params.batch_size
    ranks = current()
    if batch_size < 2 * ranks.count:
        raise ValueError(
            f"batch_size: {batch_size} on {ranks.count} ranks leaves one image to normalise by; use at least "
            f"{2 * ranks.count}"
        )
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
    start = checkpoint.restore(trial.checkpoint, weights, identity=identity) if trial.checkpoint else 0
    if start:
        sys.stderr.write(f"going on from step {start} of {steps}\n")

    def save(step: int) -> None:
        folder = trial.work / f"checkpoint-{step}"
        checkpoint.save(folder, weights, step=step, identity=identity)
        reporter.checkpoint(folder, step)

    done, stop = loop.train(
        loop.Schedule(
            steps=steps,
            peak=learning_rate,
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
    )
    if stop not in (Stop.CANCEL, Stop.DRAIN):
        weights.finish()
    return {"steps": done, "epochs": done / batches.steps_per_epoch, "batch_size": batch_size}, stop


def step(
    network: Slimmable,
    params: SlimmableParams,
    profile: DatasetProfile,
    seed: int,
    index: int,
    batch: Batch,
    scale: Scale | None = None,
) -> dict[str, Tensor]:
    """Add the gradients of step `index` to the parameters; returns its losses, on the device."""
    logits = Forward(network, params, profile, batch.images)
    sides = params.trained_sides(profile)
    drawn = sandwich.draw(
        seed,
        index,
        widths=(params.widths.min, params.widths.max),
        resolutions=sides,
        random_widths=params.random_widths,
        stages=params.stages,
    )
    losses = sandwich.backward(
        lambda: logits(params.widths.max, sides[0]),
        [partial(logits, sub.width, sub.resolution) for sub in drawn],
        batch.labels,
        label_smoothing=params.label_smoothing,
        scale=scale,
    )
    return {"loss": losses.teacher, "distillation_loss": losses.students}


def _identity(trial: Trial, steps: int) -> str:
    """What a checkpoint must agree in with the trial that goes on from it."""
    method, dataset = trial.spec.method.model_dump_json(), trial.spec.dataset.fingerprint
    what = json.dumps(trial.params, sort_keys=True)
    described = f"{method} {dataset} {what} {trial.seed} {steps} {trial.batch_scale:g}"
    return hashlib.sha256(described.encode()).hexdigest()
