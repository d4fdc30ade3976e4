"""Polish: a front network gets its own weights by a short training that starts from the shared ones, with the best
network as teacher.

Not in the papers. The loss is that of Hinton et al. 2015 (arXiv 1503.02531); once-for-all (Cai et al., arXiv
1908.09791) fine-tunes deployed networks in a similar way. On photos of clothes it gave networks of an FD-MobileNet 6 to
12 points of selection accuracy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.models.build import Network
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search import evaluation
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.data.loader import Batch
from paretofit.search.data.sampling import resize
from paretofit.search.methods.mutualnet import supernet
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.plan import SUPERNET
from paretofit.search.training import standalone
from paretofit.search.training.distributed import current
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.step import Scale, autocast_dtype
from paretofit.search.training.subnet_evaluator import Size, SubnetEvaluator
from paretofit.search.training.trainer import fit

TEMPERATURE: Final = 2.0
DISTILLATION: Final = TEMPERATURE**2
"""Weight of the divergence, which makes its gradient as large as at temperature 1 (Hinton et al., section 2)."""
LABELS: Final = 0.5
"""Weight of the cross-entropy with the labels."""
_RATE: Final = 0.04
"""Learning rate at batch size 64."""
_WARMUP: Final = 0.05
"""Fraction of the training."""


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train the network of the trial's `config` for its `epochs`, with `teacher`; report it as a point with weights
    and, as `polish_gain`, the increase of its selection accuracy."""
    params = trial.spec.params(SlimmableParams)
    swept = trial.spec.candidate(trial.params["config"])
    candidate = swept.model_copy(update={"key": f"{swept.key}-polished"})
    shared = supernet.load(trial.inputs[SUPERNET], trial.device)
    taught_by = params.candidate(trial.spec.dataset, trial.params["teacher"])
    own, teacher = _cut(shared, trial, swept), _cut(shared, trial, taught_by)
    network = Slimmable(own.architecture, trial.device)
    with torch.no_grad():
        for name, parameter in network.network.named_parameters():
            parameter.copy_(own.get_parameter(name))
    # Relative to the training, for any length.
    recipe = {
        "epochs": 1,
        "warmup_epochs": _WARMUP,
        "learning_rate": _RATE * params.batch_size / 64,
        "backbone_rate": 1.0,
    }
    trial = replace(trial, spec=trial.spec.model_copy(update={"method": params.model_copy(update=recipe)}))
    passes = partial(step, network, teacher, params, swept.input_size, taught_by.input_size)
    predict = partial(standalone.logits, network, params, swept.input_size)
    outputs, stop = fit(trial, reporter, network, passes, trial.params["epochs"], predict=predict)
    outputs["planned_epochs"] = params.polish_epochs(trial.spec.dataset)
    if current().rank > 0 or stop in (Stop.CANCEL, Stop.DRAIN) or not outputs["steps"]:
        return outputs
    evaluator = SubnetEvaluator(trial, network, candidate.input_size)
    before = evaluation.accuracy(own, evaluator.images_of("selection", candidate.input_size))

    def gained(point: Point) -> dict[str, float]:
        return {"polish_gain": point.metrics["selection_top1"] - before}

    training = StandaloneTraining(
        network, candidate, trial.params["epochs"], f"{candidate.key}.safetensors", further=gained
    )
    point = standalone.report(trial, reporter, training, evaluator, outputs)
    return outputs if point is None else outputs | {"point": point.key, "gain": point.metrics["polish_gain"]}


def step(
    network: Slimmable,
    teacher: Network,
    params: SlimmableParams,
    size: Size,
    teacher_size: Size,
    index: int,
    batch: Batch,
    scale: Scale,
) -> dict[str, Tensor]:
    """Add the gradients of one step; returns its losses, on the device."""
    del index
    images = batch.images.contiguous(memory_format=torch.channels_last)
    dtype = autocast_dtype(params.precision, images.device)
    with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
        with torch.no_grad():
            target = teacher(resize(images, teacher_size, antialias=params.antialias))
        logits = network(resize(images, size, antialias=params.antialias))
    logits, target = logits.to(images.dtype), target.to(images.dtype)
    divergence = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, dim=1),
        F.log_softmax(target / TEMPERATURE, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    loss = F.cross_entropy(logits, batch.labels, label_smoothing=params.label_smoothing)
    torch.autograd.backward(scale(DISTILLATION * divergence + LABELS * loss))
    return {"loss": loss.detach(), "distillation_loss": divergence.detach()}


def _cut(shared: Slimmable, trial: Trial, candidate: Candidate) -> Network:
    """Extract a network from the supernet with the statistics of the sweep, or new ones if constraints excluded it from
    measurement."""
    architecture = trial.spec.method.network(trial.spec.dataset, candidate.config)
    if not shared.calibrated(architecture, candidate.input_size):
        evaluator = SubnetEvaluator(trial, shared, candidate.input_size)
        batches = evaluator.images_of("train", candidate.input_size)
        shared.calibrate(architecture, (batch.images for batch in batches))
    network = shared.extract(architecture, candidate.input_size)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network
