"""Trains a network with a learned shape, freezes the shape, and measures the frozen network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.models.families.shapes import Rule, Shape, Sizes, TooCostlyError
from paretofit.models.layers.shape_adaptor import Adaptive
from paretofit.models.pretrained.start import start_of
from paretofit.models.pretrained.transfer import transfer
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.latency import curve
from paretofit.search.methods.shape_adaptor import report
from paretofit.search.methods.shape_adaptor.learner import Learner
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.plan import PRETRAINED
from paretofit.search.methods.shape_adaptor.space import key
from paretofit.search.training import standalone, starting
from paretofit.search.training.distributed import current
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.subnet_evaluator import SubnetEvaluator
from paretofit.search.training.trainer import fit

NEGLIGIBLE: Final = 1e-3
"""Blend below which a branch may be removed."""


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Learn the shape of the trial's `config` for its `epochs`; report a point with weights, and the history of its
    shape as data and as a chart.

    Also reports, if requested, the network without negligible branches and, with a latency bound, smaller ones. Raises
    TooCostlyError if no shape fits."""
    params = trial.spec.params(ShapeAdaptorParams)
    dataset, config, epochs = trial.spec.dataset, trial.params["config"], trial.params["epochs"]
    torch.manual_seed(trial.seed)
    space = params.space(dataset, config)
    network = Adaptive(space.rule, space.alpha, trial.device)
    if PRETRAINED in trial.inputs:
        start_from(trial.inputs[PRETRAINED], network, dataset.classes)
    batch_size = max(2, int(params.batch_size * trial.batch_scale))
    steps = epochs * (dataset.images["train"] // batch_size)
    learner = Learner(network, trial.spec, config, steps, reporter)
    initialize = starting.initializer(trial, reporter, network.slimmable, space.size, plain=space.designed)
    if PRETRAINED in trial.inputs:
        initialize = None
    outputs, stop = fit(
        trial, reporter, learner, learner.passes, epochs, learner, predict=learner.logits, initialize=initialize
    )
    if stop not in (Stop.CANCEL, Stop.DRAIN) and not learner.notes["settled"]:
        learner.settle(outputs["steps"])
    outputs["planned_epochs"] = params.epochs
    if current().rank > 0 or stop in (Stop.CANCEL, Stop.DRAIN) or not outputs["steps"]:
        return outputs
    shapes = {key(config): network.shape()}
    if params.prune and (pruned := without_negligible(network.shape())) != network.shape():
        shapes[f"{key(config)}-pruned"] = pruned
    if curve.bounded(trial.spec):
        shapes |= {f"{key(config)}-x{share:g}": shape for share, shape in _smaller(network)}
    for name, shape in shapes.items():
        point = _measured(trial, reporter, network, name, shape, outputs)
        if point is None:
            break
        outputs.setdefault("point", name)
        for path in report.write(trial.work, point, learner.notes["history"], outputs["steps"]):
            reporter.artifact(path.name, path)
    return outputs | {"shape": network.shape().written()}


def without_negligible(shape: Shape) -> Shape:
    """Rounds blends that are nearly 0 or 1."""
    return replace(
        shape,
        blends=tuple(
            round(blend) * 1.0 if abs(blend - round(blend)) <= NEGLIGIBLE else blend for blend in shape.blends
        ),
    )


def _smaller(network: Adaptive) -> Iterator[tuple[float, Shape]]:
    """The shape scaled to shares of its multiply-accumulates by shifting all alphas, as far as possible."""
    rule, alphas = network.rule, network.alpha.tolist()
    macs = rule.macs(network.sizes)
    found = {network.shape()}
    for share in curve.SMALLER:
        with suppress(TooCostlyError):
            shape = rule.fitted(alphas, partial(_takes, rule, share * macs), grows=True)
            # Sizes are integers, so a share can be met by the previous shape.
            if shape not in found:
                found.add(shape)
                yield share, shape


def _takes(rule: Rule, most: float, sizes: Sizes) -> bool:
    return rule.macs(sizes) <= most


def start_from(path: Path, network: Adaptive, classes: Sequence[str]) -> None:
    """Load a checkpoint of the human-designed network into a network; the classifier keeps its weights unless `classes`
    are those of the checkpoint. Raises PretrainedError for another network's."""
    start = start_of(path)
    moved = transfer(start, network.rule.network, same_classes=start.class_names == tuple(classes))
    moved.load(network.slimmable.network)


def _measured(
    trial: Trial, reporter: Reporter, network: Adaptive, name: str, shape: Shape, outputs: dict[str, Any]
) -> Point | None:
    """The network frozen in a shape, as a point."""
    params = trial.spec.params(ShapeAdaptorParams)
    frozen = network.frozen(shape)
    convert_conv2d_weight_memory_format(frozen, torch.channels_last)
    config = {**trial.params["config"], "shape": shape.written()}
    candidate = params.candidate(trial.spec.dataset, config).model_copy(update={"key": name})
    training = StandaloneTraining(frozen, candidate, trial.params["epochs"], file=f"{name}.safetensors")
    evaluator = SubnetEvaluator(trial, frozen.eval(), candidate.input_size)
    return standalone.report(trial, reporter, training, evaluator, outputs)
