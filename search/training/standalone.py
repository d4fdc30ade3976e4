"""Trains one network on its own at one input size, and measures it: for baselines, and for methods that search among
such networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from paretofit.models.architecture import Architecture
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.data.loader import Batch
from paretofit.search.data.sampling import resize
from paretofit.search.training import starting
from paretofit.search.training.distributed import current
from paretofit.search.training.params import TrainingParams
from paretofit.search.training.step import Scale, autocast_dtype, sandwich_loss_backward
from paretofit.search.training.subnet_evaluator import Size, SubnetEvaluator
from paretofit.search.training.trainer import EarlyStopping, fit

_AT_ONCE = (Stop.CANCEL, Stop.DRAIN)


class StandaloneTraining(NamedTuple):
    """A network to train on its own."""

    network: Slimmable
    candidate: Candidate
    epochs: int
    file: str
    """Name of the artifact for its weights."""
    role: Literal["candidate", "baseline"] = "candidate"
    further: Callable[[Point], dict[str, float]] | None = None
    """Metrics of the trained network, besides those of all points."""
    plain: Architecture | None = None
    """The plain network of the family, if `network` is another form of it; unset: itself."""


def initial(trial: Trial, architecture: Architecture) -> Slimmable:
    """The untrained network of a trial, on its device. Convolutions are frozen if trained weights are only probed;
    statistics are fixed if a batch has too few images for its own."""
    params = trial.spec.params(TrainingParams)
    torch.manual_seed(trial.seed)
    network = Slimmable(architecture, trial.device)
    if trial.spec.start is not None and params.fixes_statistics:
        size = (architecture.nominal, architecture.nominal)
        channels = sum(layer.output.channels for layer in architecture.layers(size) if layer.op == "batch_norm")
        network.fix_statistics(torch.zeros(2, channels))
        if params.effort == "probe":
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.requires_grad = False
    return network


def run(
    trial: Trial,
    reporter: Reporter,
    training: StandaloneTraining,
    evaluator: SubnetEvaluator,
    early_stopping: EarlyStopping | None = None,
) -> tuple[dict[str, Any], Point | None]:
    """Train the network by the recipe of the trial's method; report it as a point with weights. Returns the training's
    outputs, and no point if the trial is to end at once, had no step, was stopped early, or on any rank but the first.
    Raises like `fit`, and BelowStartError."""
    params, network, candidate = trial.spec.params(TrainingParams), training.network, training.candidate
    passes = partial(step, network, params, candidate.input_size)
    outputs, stop = fit(
        trial,
        reporter,
        network,
        passes,
        training.epochs,
        early_stopping,
        predict=partial(logits, network, params, candidate.input_size),
        initialize=starting.initializer(trial, reporter, network, candidate.input_size, plain=training.plain),
    )
    stopped_early = stop is Stop.NO and outputs["epochs"] < training.epochs
    if current().rank > 0 or stop in _AT_ONCE or stopped_early or not outputs["steps"]:
        return outputs, None
    point = report(trial, reporter, training, evaluator, outputs, check_floor=stop is Stop.NO)
    return outputs if point is None else outputs | {"point": point.key}, point


def report(
    trial: Trial,
    reporter: Reporter,
    training: StandaloneTraining,
    evaluator: SubnetEvaluator,
    outputs: dict[str, Any],
    *,
    check_floor: bool = False,
) -> Point | None:
    """Measure a trained network, and report it as a point with weights; None if the trial is to end at once. `outputs`
    are those of its training. `check_floor`: raise BelowStartError if it is worse than its trained weights."""
    point = evaluator.measure(training.candidate)
    if check_floor:
        starting.check_floor(trial, outputs, point.metrics["selection_top1"])
    if reporter.should_stop() in _AT_ONCE:
        return None
    provenance = {**point.provenance, "epochs": outputs["epochs"]}
    metrics = point.metrics if training.further is None else {**point.metrics, **training.further(point)}
    point = point.model_copy(update={"role": training.role, "provenance": provenance, "metrics": metrics})
    point = evaluator.publish(point, training.file)
    reporter.artifact(training.file, trial.work / training.file)
    reporter.point(point)
    return point


def step(
    network: nn.Module,
    params: TrainingParams,
    size: Size,
    index: int,
    batch: Batch,
    scale: Scale | None = None,
) -> dict[str, Tensor]:
    """Add the gradients of the cross-entropy with the labels; returns the loss, on the device."""
    del index
    losses = sandwich_loss_backward(
        partial(logits, network, params, size, batch.images),
        [],
        batch.labels,
        label_smoothing=params.label_smoothing,
        scale=scale,
    )
    return {"loss": losses.teacher}


def logits(network: nn.Module, params: TrainingParams, size: Size, images: Tensor) -> Tensor:
    """[batch, classes], of the images' dtype, in the floating-point type of training."""
    sized = resize(images, size, antialias=params.antialias).contiguous(memory_format=torch.channels_last)
    dtype = autocast_dtype(params.precision, images.device)
    with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
        out: Tensor = network(sized)
    return out.to(images.dtype)
