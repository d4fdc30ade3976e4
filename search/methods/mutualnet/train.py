"""Stage 1: train one network for all widths and resolutions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.data.loader import Batch
from paretofit.search.measuring.meter import Meter
from paretofit.search.methods.method import FLOOR, DatasetProfile
from paretofit.search.methods.mutualnet import supernet
from paretofit.search.methods.mutualnet.forward import Forward
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.plan import SUPERNET
from paretofit.search.methods.training import input_size
from paretofit.search.reporter import Reporter, Stop, Trial
from paretofit.search.training import sandwich, starting
from paretofit.search.training.fit import fit
from paretofit.search.training.parts import Scale
from paretofit.search.training.ranks import current


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train from scratch, from trained weights or from a checkpoint; report curves and the artifact `supernet`. Raises
    what `fit` does, and BelowStartError for a full network that is worse than the trained weights were."""
    params: SlimmableParams = trial.spec.method
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
            # Before anything of it is reported.
            full = params.candidate(profile, params.full_config(profile))
            top1 = Meter(trial, network, full.input_size).measure(full).metrics["selection_top1"]
            starting.require_floor(outputs, top1, profile.images["selection"])
        path = trial.work / "supernet.safetensors"
        supernet.save(path, network)
        reporter.artifact(SUPERNET, path)
    return outputs | {"planned_epochs": params.epochs}


class Phases:
    """The least width over a training of so many steps: the full network alone, then a least width that falls along a
    line to that of the parameters, then all widths. Neither of the first two is in the paper."""

    def __init__(self, params: SlimmableParams, steps: int) -> None:
        self._full_first = params.full_first * steps
        self._lowering = params.lowering * steps
        self._widths = params.widths

    def least(self, index: int) -> float | None:
        """At step `index`; None: the full network is trained alone."""
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
    step is the paper's."""
    logits = Forward(network, params, profile, batch.images)
    sides = params.trained_sides(profile)
    least = params.widths.min if phases is None else phases.least(index)
    drawn = (
        []
        if least is None
        else sandwich.draw(
            seed,
            index,
            widths=(least, params.widths.max),
            resolutions=sides,
            random_widths=params.random_widths,
            stages=params.stages,
        )
    )
    losses = sandwich.backward(
        lambda: logits(params.widths.max, sides[0]),
        [partial(logits, sub.width, sub.resolution) for sub in drawn],
        batch.labels,
        label_smoothing=params.label_smoothing,
        scale=scale,
    )
    return {"loss": losses.teacher, "distillation_loss": losses.students}


def _logits(network: Slimmable, params: SlimmableParams, profile: DatasetProfile, side: int, images: Tensor) -> Tensor:
    """Of the full network."""
    return Forward(network, params, profile, images)(params.widths.max, side)
