"""Stage 1: train one network for all widths and resolutions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.layers.slimmable import Slimmable
from search.data.loader import Batch
from search.methods.method import DatasetProfile
from search.methods.mutualnet import supernet
from search.methods.mutualnet.forward import Forward
from search.methods.mutualnet.params import SlimmableParams
from search.methods.mutualnet.plan import SUPERNET
from search.reporter import Reporter, Stop, Trial
from search.training import sandwich
from search.training.fit import fit
from search.training.parts import Scale
from search.training.ranks import current


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train from the start or from a checkpoint; report curves and the artifact `supernet`."""
    params: SlimmableParams = trial.spec.method
    profile = trial.spec.dataset
    torch.manual_seed(trial.seed)
    network = Slimmable(params.architecture(profile, params.widths.max), trial.device)
    passes = partial(step, network, params, profile, trial.seed)
    outputs, stop = fit(trial, reporter, network, passes, trial.params["epochs"])
    if current().rank == 0 and stop not in (Stop.CANCEL, Stop.DRAIN):
        path = trial.work / "supernet.safetensors"
        supernet.save(path, network)
        reporter.artifact(SUPERNET, path)
    return outputs | {"planned_epochs": params.epochs}


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
