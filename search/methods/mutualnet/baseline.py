"""A baseline: one width at one resolution, trained on its own by the recipe of the shared network, and measured."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.cost import cost
from models.layers.slimmable import Slimmable
from search.data.loader import Batch
from search.methods.method import Candidate, DatasetProfile
from search.methods.mutualnet import budget
from search.methods.mutualnet.forward import Forward
from search.methods.mutualnet.measure import Meter
from search.methods.mutualnet.params import SlimmableParams, input_size
from search.methods.mutualnet.plan import BASELINE_FILE
from search.methods.mutualnet.train import fit
from search.reporter import Reporter, Stop, Trial
from search.training import sandwich
from search.training.parts import Scale
from search.training.ranks import current


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train the trial's `width` at its `resolution` for its `epochs`; report a point of role baseline, with weights."""
    params: SlimmableParams = trial.spec.method
    profile = trial.spec.dataset
    width, resolution, epochs = (trial.params[name] for name in ("width", "resolution", "epochs"))
    torch.manual_seed(trial.seed)
    network = Slimmable(params.architecture(profile, width), trial.device)
    passes = partial(step, network, params, profile, width, resolution)
    outputs, stop = fit(trial, reporter, network, passes, epochs)
    outputs["planned_epochs"] = budget.epochs(trial.spec, None).each
    if current().rank > 0 or stop in (Stop.CANCEL, Stop.DRAIN):
        return outputs
    size = input_size(profile, resolution)
    meter = Meter(trial, network.eval(), input_size(profile, params.sides(profile)[0]))
    point = meter.measure(
        Candidate(
            key=f"baseline-w{width:g}-r{resolution}",
            config={"width": width, "resolution": resolution},
            input_size=size,
            cost=cost(network.architecture, size).as_dict(),
        )
    )
    if reporter.should_stop() in (Stop.CANCEL, Stop.DRAIN):
        return outputs
    provenance = {**point.provenance, "epochs": outputs["epochs"]}
    changes = {"role": "baseline", "supernet": None, "provenance": provenance}
    point = meter.publish(point.model_copy(update=changes), BASELINE_FILE)
    reporter.artifact(BASELINE_FILE, trial.work / BASELINE_FILE)
    reporter.point(point)
    return outputs | {"point": point.key}


def step(
    network: Slimmable,
    params: SlimmableParams,
    profile: DatasetProfile,
    width: float,
    resolution: int,
    index: int,
    batch: Batch,
    scale: Scale | None = None,
) -> dict[str, Tensor]:
    """Add the gradients of the cross-entropy with the labels; returns the loss, on the device."""
    del index
    logits = Forward(network, params, profile, batch.images)
    losses = sandwich.backward(
        lambda: logits(width, resolution), [], batch.labels, label_smoothing=params.label_smoothing, scale=scale
    )
    return {"loss": losses.teacher}
