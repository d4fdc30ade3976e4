"""Stage 1: train the supernet for all widths and resolutions.

The step is MutualNet's (Yang et al., arXiv 1909.12978, Algorithm 1): the full network learns from the labels, three
others from the full network. The sandwich rule is US-Net's (arXiv 1903.05134), which is this step at a single
resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paretofit.models.families.scaling import Width
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.plan import FLOOR
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.data.loader import Batch
from paretofit.search.data.sampling import resize
from paretofit.search.methods.mutualnet import supernet
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.plan import SUPERNET
from paretofit.search.training import starting
from paretofit.search.training.distributed import current
from paretofit.search.training.params import input_size
from paretofit.search.training.step import Scale, autocast_dtype, sandwich_loss_backward
from paretofit.search.training.subnet_evaluator import SubnetEvaluator
from paretofit.search.training.trainer import fit


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train from scratch, from trained weights or from a checkpoint; report curves and the artifact `supernet`. Raises
    like `fit`, and BelowStartError if the full network is worse than the trained weights."""
    params = trial.spec.params(SlimmableParams)
    profile = trial.spec.dataset
    torch.manual_seed(trial.seed)
    network = Slimmable(params.architecture(profile, params.widths.max), trial.device)
    epochs = trial.params["epochs"]
    batch_size = max(2, int(params.batch_size * trial.batch_scale))
    phases = Phases(params, max(1, round(epochs * (profile.images["train"] // batch_size))))
    side = params.trained_sides(profile)[0]
    initialize = starting.initializer(trial, reporter, network, input_size(profile, side), sort=params.sort_channels)
    outputs, stop = fit(
        trial,
        reporter,
        network,
        partial(step, network, params, profile, trial.seed, phases=phases),
        epochs,
        predict=partial(_logits, network, params, profile, side),
        initialize=initialize,
    )
    if current().rank == 0 and stop not in (Stop.CANCEL, Stop.DRAIN):
        if FLOOR in outputs and stop is Stop.NO:
            # Before anything is reported.
            full = params.candidate(profile, params.full_config(profile))
            top1 = SubnetEvaluator(trial, network, full.input_size).measure(full).metrics["selection_top1"]
            starting.check_floor(trial, outputs, top1)
        path = trial.work / "supernet.safetensors"
        supernet.save(path, network)
        reporter.artifact(SUPERNET, path)
    return outputs | {"planned_epochs": params.epochs}


class Draw(NamedTuple):
    """A sub-network of one step: its width multiplier, or one per stage, and its resolution in pixels."""

    width: Width
    resolution: int


def draw(
    seed: int,
    step: int,
    *,
    widths: tuple[float, float],
    resolutions: Sequence[int],
    random_widths: int,
    stages: int | None = None,
) -> list[Draw]:
    """Sub-networks of a step: the smallest width, then `random_widths` uniform in `widths`, each at its own resolution.

    With `stages` each stage samples a width, and the smallest network has all stages smallest. A function of (seed,
    step), so the same after a resume and on every rank."""
    random = Random(f"sandwich:{seed}:{step}")
    smallest, largest = widths

    def uniform() -> Width:
        if stages is None:
            return random.uniform(smallest, largest)
        return tuple(random.uniform(smallest, largest) for _ in range(stages))

    chosen: list[Width] = [smallest if stages is None else (smallest,) * stages]
    chosen += [uniform() for _ in range(random_widths)]
    return [Draw(width, random.choice(resolutions)) for width in chosen]


class Forward:
    """Logits of sub-networks on the same crops, resized once for each distinct size."""

    def __init__(self, network: Slimmable, params: SlimmableParams, profile: DatasetProfile, images: Tensor) -> None:
        self._network = network
        self._params = params
        self._profile = profile
        self._images = images.contiguous(memory_format=torch.channels_last)
        self._dtype = autocast_dtype(params.precision, images.device)
        self._sized: dict[tuple[int, int], Tensor] = {}

    def __call__(self, width: Width, resolution: int) -> Tensor:
        """[batch, classes], of the images' dtype."""
        images = self._at(resolution)
        with torch.autocast(images.device.type, self._dtype, enabled=self._dtype is not None):
            out: Tensor = self._network(images, self._params.architecture(self._profile, width))
        return out.to(images.dtype)

    def _at(self, resolution: int) -> Tensor:
        size = input_size(self._profile, resolution)
        if size not in self._sized:
            self._sized[size] = resize(self._images, size, antialias=self._params.antialias)
        return self._sized[size]


class Phases:
    """The smallest width during training: first the full network alone, then a smallest width that decreases linearly
    to that of the parameters, then all widths. The first two phases are not in the paper."""

    def __init__(self, params: SlimmableParams, steps: int) -> None:
        self._full_first = params.full_first * steps
        self._lowering = params.lowering * steps
        self._widths = params.widths

    def least(self, index: int) -> float | None:
        """Smallest width at step `index`; None: the full network is trained alone."""
        if index < self._full_first:
            return None
        lowered = index + 1 - self._full_first
        if lowered >= self._lowering:
            return self._widths.min
        return self._widths.max - lowered / self._lowering * (self._widths.max - self._widths.min)


def step(
    network: Slimmable,
    params: SlimmableParams,
    profile: DatasetProfile,
    seed: int,
    index: int,
    batch: Batch,
    scale: Scale | None = None,
    *,
    phases: Phases | None = None,
) -> dict[str, Tensor]:
    """Add the gradients of step `index` to the parameters; returns its losses, on the device. Without `phases` every
    step is that of the paper."""
    logits = Forward(network, params, profile, batch.images)
    sides = params.trained_sides(profile)
    least = params.widths.min if phases is None else phases.least(index)
    drawn = (
        []
        if least is None
        else draw(
            seed,
            index,
            widths=(least, params.widths.max),
            resolutions=sides,
            random_widths=params.random_widths,
            stages=params.stages,
        )
    )
    losses = sandwich_loss_backward(
        lambda: logits(params.widths.max, sides[0]),
        [partial(logits, sub.width, sub.resolution) for sub in drawn],
        batch.labels,
        label_smoothing=params.label_smoothing,
        scale=scale,
    )
    return {"loss": losses.teacher, "distillation_loss": losses.students}


def _logits(network: Slimmable, params: SlimmableParams, profile: DatasetProfile, side: int, images: Tensor) -> Tensor:
    """Logits of the full network."""
    return Forward(network, params, profile, images)(params.widths.max, side)
