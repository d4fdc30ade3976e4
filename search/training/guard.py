"""Detects trainings that do not learn: a collapsed network gives the same answer for every input.

A learning rate that is too high collapses networks without shortcuts within the first steps, while the loss stays
finite: it settles at the entropy of the class frequencies. Our own rule, measured on a fixed batch of training images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretofit.search.data.loader import Batch

IMAGES: Final = 256
"""Maximum number of training images in the fixed batch."""
RETRY_RATE: Final = 1 / 3
"""Factor of the learning rate in the one retry of a training that does not learn."""
LEAST_STEPS: Final = 200
"""Shorter trainings are not checked: they may end before they learn anything."""
_FIRST: Final = 100
"""Steps after the warm-up at which the first check looks for collapse only."""
_LATER: Final = (0.35, 0.65, 1.0)
"""Fractions of the training after which it must beat the class frequencies."""
_COLLAPSED: Final = 1e-3
"""Relative to log(classes): mutual information of image and answer below which the answers do not depend on the
images."""
_PREDICTION_BATCH: Final = 64

Predict = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] of the dataset's size, normalized -> logits [N, classes], normalized by the batch's own
statistics."""


def sample(labels: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.int64]:
    """Sorted rows of the fixed batch, drawn by seed.

    Every class gets an eighth of its equal share, at least one image, if it has so many: with fewer of a rare class,
    even a perfect network could not beat the class frequencies.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    grouped = np.argsort(labels[order], kind="stable")
    sizes = np.bincount(labels, minlength=classes)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = grouped[rank < max(1, IMAGES // (8 * classes))]
    rest = np.setdiff1d(np.arange(len(labels)), first, assume_unique=True)
    return np.sort(order[np.concatenate([np.sort(first), rest])[:IMAGES]])


class NotLearningError(ValueError):
    """A training learned nothing beyond the class frequencies, even with a third of its learning rate."""

    code: ClassVar[str] = "not_learning"


class BelowStartError(ValueError):
    """A training ended below the accuracy of the trained weights that it started from."""

    code: ClassVar[str] = "below_start"


class Verdict(NamedTuple):
    """Measurements on the fixed batch: `accuracy`; `majority`, the share of its most frequent class; cross-entropy
    `loss`; `prior`, the cross-entropy of the class frequencies; `information`, the mutual information of image and
    answer. Entropies are in nats."""

    accuracy: float
    majority: float
    loss: float
    prior: float
    information: float
    images: int
    classes: int

    @property
    def collapsed(self) -> bool:
        """Whether all images get the same answer."""
        return self.information < _COLLAPSED * math.log(self.classes)

    @property
    def learns(self) -> bool:
        """Whether it beats the majority class by two standard errors, or its loss that of the class frequencies."""
        error = math.sqrt(self.majority * (1 - self.majority) / self.images)
        return self.accuracy > self.majority + 2 * error or self.loss < 0.98 * self.prior


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks a training at some of its `steps`, of which the first `warmup` are warm-up. `batch` holds training images
    framed as in evaluation, at most `IMAGES`."""

    predict: Predict
    batch: Batch
    steps: int
    warmup: int
    classes: int

    def due(self, step: int) -> bool:
        """Whether to check the training after `step` steps."""
        return step == self._first or step in self._later

    @torch.no_grad()
    def should_stop(self, step: int) -> bool:
        """Whether the training does not learn; call it after the steps that are `due`. Synchronizes the host with the
        device."""
        verdict = self.verdict()
        return verdict.collapsed or (step in self._later and not verdict.learns)

    @torch.no_grad()
    def verdict(self) -> Verdict:
        """Measure the network on the fixed batch."""
        # In equal parts, because a single image cannot be normalized.
        parts = self.batch.images.tensor_split(math.ceil(len(self.batch.labels) / _PREDICTION_BATCH))
        logits = torch.cat([self.predict(part) for part in parts]).float()
        labels, classes = self.batch.labels, self.classes
        answers = logits.log_softmax(1)
        probabilities = answers.exp()
        mean = probabilities.mean(0)
        information = _entropy(mean) - _entropy(probabilities, answers).mean()
        counts = torch.bincount(labels, minlength=classes).float()
        found = torch.stack(
            [
                (logits.argmax(1) == labels).float().mean(),
                counts.max() / len(labels),
                torch.nn.functional.nll_loss(answers, labels),
                _entropy(counts / len(labels)),
                information,
            ]
        )
        accuracy, majority, loss, prior, information = found.tolist()
        return Verdict(accuracy, majority, loss, prior, information, images=len(labels), classes=classes)

    @property
    def _first(self) -> int:
        return min(self.warmup + _FIRST, self.steps)

    @property
    def _later(self) -> list[int]:
        # Not before the first check: a training that is mostly warm-up has learned nothing yet.
        return [max(self._first, round(share * self.steps)) for share in _LATER]


def _entropy(probabilities: Tensor, logarithms: Tensor | None = None) -> Tensor:
    """Entropy over the last axis, in nats."""
    logs = probabilities.clamp_min(1e-12).log() if logarithms is None else logarithms
    return -(probabilities * logs).sum(-1)
