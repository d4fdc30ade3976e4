"""Stage 1: train one network for all widths and resolutions.

After running out of memory, with `batch_scale` of the batch and of the learning rate: the linear rule (Goyal et al.,
arXiv 1706.02677).
"""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from models.layers.slimmable import Slimmable
from search.data.loader import Batch, TrainBatches
from search.data.sampling import resize
from search.data.store import Dataset
from search.methods.method import DatasetProfile
from search.methods.mutualnet import supernet
from search.methods.mutualnet.params import MutualNetParams, input_size
from search.methods.mutualnet.plan import SUPERNET
from search.reporter import Reporter, Stop, Trial
from search.training import checkpoint, loop, sandwich
from search.training.optimizer import sgd


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train from the start or from a checkpoint; report curves and the artifact `supernet`."""
    params: MutualNetParams = trial.spec.method
    batch_size = max(2, int(params.batch_size * trial.batch_scale))
    learning_rate = params.learning_rate * batch_size / params.batch_size
    profile = trial.spec.dataset
    device = torch.device(trial.device)

    torch.manual_seed(trial.seed)
    network = Slimmable(params.architecture(profile, params.widths.max), device)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    network.train()
    optimizer = sgd(
        network,
        learning_rate=learning_rate,
        momentum=params.momentum,
        weight_decay=params.weight_decay,
        decay=params.decay,
    )
    batches = TrainBatches(
        Dataset.open(trial.dataset),
        batch_size=batch_size,
        recipe=params.augment(profile),
        device=device,
        seed=trial.seed,
    )
    epochs = min(params.epochs, trial.spec.limits.max_epochs or params.epochs)
    steps = epochs * batches.steps_per_epoch
    identity = _identity(trial, steps)
    start = checkpoint.restore(trial.checkpoint, network, optimizer, identity=identity) if trial.checkpoint else 0
    if start:
        sys.stderr.write(f"going on from step {start} of {steps}\n")

    def save(step: int) -> None:
        folder = trial.work / f"checkpoint-{step}"
        checkpoint.save(folder, network, optimizer, step=step, identity=identity)
        reporter.checkpoint(folder, step)

    done, stop = loop.train(
        loop.Schedule(steps=steps, peak=learning_rate, start=start, checkpoint_seconds=trial.checkpoint_seconds),
        batches.from_step(start),
        partial(step, network, params, profile, trial.seed),
        optimizer,
        reporter,
        save,
    )
    outputs = {
        "steps": done,
        "epochs": done / batches.steps_per_epoch,
        "planned_epochs": params.epochs,
        "batch_size": batch_size,
    }
    if stop not in (Stop.CANCEL, Stop.DRAIN):
        path = trial.work / "supernet.safetensors"
        supernet.save(path, network)
        reporter.artifact(SUPERNET, path)
    return outputs


def step(
    network: Slimmable, params: MutualNetParams, profile: DatasetProfile, seed: int, index: int, batch: Batch
) -> dict[str, Tensor]:
    """Add the gradients of step `index` to the parameters; returns its losses, on the device.

    Every sub-network sees the same crops, resized once for each distinct size.
    """
    images = batch.images.contiguous(memory_format=torch.channels_last)
    sized: dict[tuple[int, int], Tensor] = {}

    def at(resolution: int) -> Tensor:
        size = input_size(profile, resolution)
        if size not in sized:
            sized[size] = resize(images, size, antialias=params.antialias)
        return sized[size]

    def logits(width: float, resolution: int) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=_bfloat16_is_fast(images.device)):
            out: Tensor = network(at(resolution), params.architecture(profile, width))
        return out.to(images.dtype)

    sides = params.sides(profile)
    drawn = sandwich.draw(
        seed,
        index,
        widths=(params.widths.min, params.widths.max),
        resolutions=sides,
        random_widths=params.random_widths,
    )
    losses = sandwich.backward(
        lambda: logits(params.widths.max, sides[0]),
        [partial(logits, sub.width, sub.resolution) for sub in drawn],
        batch.labels,
    )
    return {"loss": losses.teacher, "distillation_loss": losses.students}


def _bfloat16_is_fast(device: torch.device) -> bool:
    """On GPUs that compute it; CPUs are left at float32, which AVX2 machines are faster in."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _identity(trial: Trial, steps: int) -> str:
    """What a checkpoint must agree in with the trial that goes on from it."""
    method, dataset = trial.spec.method.model_dump_json(), trial.spec.dataset.fingerprint
    described = f"{method} {dataset} {trial.seed} {steps} {trial.batch_scale:g}"
    return hashlib.sha256(described.encode()).hexdigest()
