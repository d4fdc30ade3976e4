"""Initializes a network from trained weights: transfer, channel order, and a classifier in closed form.

The classifier is fitted to features with the checkpoint's own batch norm statistics (new ones cost 7 to 9 points in a
network that is not tuned). The accuracy before the first step is therefore that of the published features: the floor
for the training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.models.architecture import Architecture
from paretofit.models.blocks import Classifier
from paretofit.models.build import Network, build
from paretofit.models.channel_order import importance, sort_channels
from paretofit.models.cost import cost
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.pretrained.start import Start, start_of
from paretofit.models.pretrained.transfer import transfer
from paretofit.search import chance, evaluation
from paretofit.search.contracts.plan import FLOOR, START
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.data.loader import Batch
from paretofit.search.data.store import Dataset
from paretofit.search.training import ridge
from paretofit.search.training.guard import BelowStartError
from paretofit.search.training.params import TrainingParams
from paretofit.search.training.subnet_evaluator import Size

SORTED_ON: Final = 400
"""Images for measuring the importance of channels."""
_FITTED_ON: Final = 10_000
_FITTED_MACS: Final = 4e12
"""Maximum images for fitting the classifier, and maximum multiply-accumulates: about two minutes on one core."""
_BATCH: Final = 64


def initializer(
    trial: Trial,
    reporter: Reporter,
    network: Slimmable,
    size: Size,
    *,
    plain: Architecture | None = None,
    sort: bool = False,
) -> Callable[[], dict[str, Any]] | None:
    """A function that loads the trial's trained weights into `network` and returns `{FLOOR: accuracy}`; None for a
    search from scratch.

    The classifier is fitted at `size` on the `plain` network, if `network` is another form of it (with shape adaptors
    or masks). `sort`: put the most important channels first, so that narrower networks can be extracted; also done if
    this network is narrower than the weights.
    """
    if trial.spec.start is None:
        return None

    def initialize() -> dict[str, Any]:
        found = _Initial(trial, reporter, size)
        static = found.network(plain or network.architecture, sort=sort)
        floor = found.accuracy(static)
        if plain is None or plain == network.architecture:
            _copy(static, network)
            if network.fixed is not None:
                network.fix_statistics(_statistics(static))
        else:
            found.transfer(static, network)
        reporter.metric(FLOOR, 0, floor)
        for note in found.notes:
            sys.stderr.write(f"{note}\n")
        return {FLOOR: floor, "start_notes": found.notes}

    return initialize


def check_floor(trial: Trial, outputs: dict[str, Any], top1: float) -> None:
    """Raises BelowStartError like `require_floor`, on the selection split of a trial. Skipped if the floor does not
    beat the majority class."""
    images = trial.spec.dataset.images["selection"]
    majority = chance.majority(Dataset.open(trial.dataset).report.get("class_counts"))
    share = 0.0 if majority is None else majority.accuracy("selection_top1") or 0.0
    if FLOOR in outputs and chance.beats_majority(outputs[FLOOR], share, images):
        require_floor(outputs, top1, images)


def require_floor(outputs: dict[str, Any], top1: float, images: int) -> None:
    """Raises BelowStartError if the selection accuracy of a training is below its floor by more than two standard
    errors.

    The standard error counts two more right and two more wrong answers (Agresti & Coull, The American Statistician
    1998). Without them it would be 0 at a floor of 100 %, and a single wrong answer would be too many.
    """
    floor = outputs.get(FLOOR)
    if floor is None:
        return
    share = (floor * images + 2) / (images + 4)
    if top1 < floor - 2 * chance.standard_error(share, images + 4):
        raise BelowStartError(
            f"the training ended at {top1:.1%} of the selection split, below the {floor:.1%} of its trained "
            "weights: train for more epochs, or lower learning_rate or backbone_rate"
        )


class _Initial:
    """The trained weights of a trial."""

    def __init__(self, trial: Trial, reporter: Reporter, size: Size) -> None:
        self.notes: list[str] = []
        """Tensors that were not loaded, or were changed, and why."""
        self._reporter = reporter
        self._trial = trial
        self._size = size
        self._profile = trial.spec.dataset
        self._dataset = Dataset.open(trial.dataset)
        self._conditions = evaluation.conditions(trial.device, _BATCH)
        self._preprocessing = trial.spec.params(TrainingParams).preprocessing(self._profile)
        self._start = start_of(trial.inputs[START])
        self._same_classes = self._start.class_names == self._profile.classes

    def network(self, target: Architecture, *, sort: bool) -> Network:
        """`target` with trained weights and a fitted classifier, in evaluation mode."""
        full = self._full(target)
        narrower = cost(full, self._size).params > cost(target, self._size).params
        if not (sort or narrower):
            static = self._loaded(self._start, target, same_classes=self._same_classes)
            if not self._same_classes:
                self._fit_classifier(static)
            return static
        # Includes the classifier, which determines the importance of the last channels.
        whole = self._loaded(self._start, full, same_classes=self._same_classes)
        if not self._same_classes:
            self._fit_classifier(whole)
        sort_channels(whole, importance(whole, (batch.images for batch in self._batches("train", SORTED_ON))))
        static = self._loaded(self._of(whole), target, same_classes=True)
        if narrower:
            self._calibrate(static)
            self._fit_classifier(static)
        return static

    def accuracy(self, network: Network) -> float:
        """Accuracy on the selection split."""
        return evaluation.accuracy(network, self._batches("selection"))

    def transfer(self, static: Network, network: Slimmable) -> None:
        """Copy the tensors of a plain network into another form of it."""
        transfer(self._of(static), network.architecture, same_classes=True).load(network.network)

    def _of(self, network: Network) -> Start:
        """Its current tensors."""
        tensors = {
            name: tensor.detach().cpu().clone()
            for name, tensor in network.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        mean, std = self._profile.mean, self._profile.std
        return replace(self._start, architecture=network.architecture, tensors=tensors, mean=mean, std=std)

    def _fit_classifier(self, network: Network) -> None:
        classes = len(self._profile.classes)
        macs = cost(network.architecture, self._size).macs
        images = max(20 * classes, min(_FITTED_ON, int(_FITTED_MACS / macs)))
        head = ridge.fit(network, self._batches("train", images), classes)
        classifier = network.blocks[-1]
        assert isinstance(classifier, Classifier)
        fitted = (
            f"The classifier is fitted to {min(images, self._profile.images['train'])} training images in closed form."
        )
        if fitted not in self.notes:
            self.notes.append(fitted)
        with torch.no_grad():
            classifier.linear.weight.copy_(head.weight)
            classifier.linear.bias.copy_(head.bias)

    def _full(self, target: Architecture) -> Architecture:
        assert self._trial.spec.start is not None
        return self._trial.spec.start.full(self._profile.channels, len(self._profile.classes), target.nominal)

    def _loaded(self, start: Start, target: Architecture, *, same_classes: bool) -> Network:
        network = build(target, self._trial.device).eval()
        moved = transfer(start, target, same_classes=same_classes)
        moved.load(network)
        self.notes += [note for note in moved.notes if note not in self.notes]
        convert_conv2d_weight_memory_format(network, torch.channels_last)
        return network

    @torch.no_grad()
    def _calibrate(self, network: Network) -> None:
        """Statistics of a network that is narrower than the one they come from."""
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        params = self._trial.spec.params(TrainingParams)
        network.train()
        for count, batch in enumerate(self._batches("train", params.calibration_images), start=1):
            for norm in norms:
                norm.momentum = 1 / count
            network(batch.images)
        network.eval()

    def _batches(self, split: str, images: int | None = None) -> Iterator[Batch]:
        """Images of a split, sampled by seed; unset: all."""
        rows = None
        if images is not None:
            generator = torch.Generator().manual_seed(self._trial.spec.seed)
            count = len(self._dataset.split(split))
            rows = torch.randperm(count, generator=generator)[:images].sort().values.numpy()
        batches = evaluation.inputs(
            self._dataset,
            split,
            self._preprocessing,
            self._conditions,
            self._size,
            device=self._trial.device,
            rows=rows,
        )
        for batch in batches:
            yield batch
            # The training then ends at its first step, so one batch is enough for everything before it.
            if self._reporter.should_stop() in (Stop.CANCEL, Stop.DRAIN):
                return


@torch.no_grad()
def _copy(static: Network, network: Slimmable) -> None:
    for name, parameter in network.network.named_parameters():
        parameter.copy_(static.get_parameter(name))


def _statistics(network: Network) -> Tensor:
    """[2, channels of all batch norms], in the order of the layers."""
    nominal = network.architecture.nominal
    layers = network.architecture.layers((nominal, nominal))
    norms = [network.get_submodule(layer.name) for layer in layers if layer.op == "batch_norm"]
    return torch.stack(
        [torch.cat([norm.get_buffer(name) for norm in norms]) for name in ("running_mean", "running_var")]
    )
