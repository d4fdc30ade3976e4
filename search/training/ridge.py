"""Fits a linear classifier to trained features in closed form: seconds, no learning rate, and a reliable first
accuracy.

Hoerl & Kennard, Technometrics 1970; the penalty is chosen by generalized cross-validation (Golub, Heath & Wahba,
Technometrics 1979), which needs only sums over the images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from paretofit.models.blocks import Classifier
from paretofit.models.build import Network
from paretofit.search.data.loader import Batch

_PENALTIES: Final = torch.logspace(-7, 1, 33, dtype=torch.float64)
"""Relative to the largest eigenvalue of the features' covariance."""
_SCALED_ON: Final = 2048
"""Images for choosing the scale of the logits."""
_BISECTIONS: Final = 40


@dataclass(frozen=True, slots=True)
class Head:
    """Weight [classes, features] and bias [classes] of a linear layer, float32."""

    weight: Tensor
    bias: Tensor


@torch.no_grad()
def features(network: Network, images: Tensor) -> Tensor:
    """Input of the network's classifier for images [N, C, H, W]: float [N, features]."""
    *body, classifier = network.blocks
    assert isinstance(classifier, Classifier)
    x = images
    for block in body:
        x = block(x)
    out: Tensor = classifier.pool(x).flatten(1)
    return out


@torch.no_grad()
def fit(network: Network, batches: Iterable[Batch], classes: int) -> Head:
    """The classifier of a network in evaluation mode, fitted to the features of labeled images. Raises ValueError
    without images."""
    sums: _Sums | None = None
    kept: list[Tensor] = []
    count = 0
    for images, labels in batches:
        x = features(network, images).double()
        y = torch.nn.functional.one_hot(labels, classes).double()
        sums = _Sums.zeros(x.shape[1], classes, x.device) if sums is None else sums
        sums.add(x, y)
        if count < _SCALED_ON:
            kept.append(x)
        count += len(labels)
    if sums is None:
        raise ValueError("the classifier needs at least one training image")
    weight, bias = sums.solve(count)
    scale = _scale((torch.cat(kept) @ weight + bias).cpu())
    return Head((scale * weight.t()).float().contiguous(), (scale * bias).float())


@dataclass(slots=True)
class _Sums:
    """Sums over all images of the features x, the labels y (one-hot), and their products; float64."""

    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor

    @classmethod
    def zeros(cls, features: int, classes: int, device: torch.device) -> _Sums:
        shapes = (features,), (classes,), (features, features), (features, classes)
        return cls(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    def add(self, x: Tensor, y: Tensor) -> None:
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx.addmm_(x.t(), x)
        self.xy.addmm_(x.t(), y)

    def solve(self, count: int) -> tuple[Tensor, Tensor]:
        """Weight [features, classes] and bias [classes] that predict y, with the penalty that generalizes best."""
        mean_x, mean_y = self.x / count, self.y / count
        covariance = self.xx / count - torch.outer(mean_x, mean_x)
        cross = self.xy / count - torch.outer(mean_x, mean_y)
        values, vectors = torch.linalg.eigh(covariance)
        values = values.clamp_min(0)
        rotated = vectors.t() @ cross
        # Labels are one-hot, so the sum of squares of a column is its count.
        spread = (mean_y - mean_y.square()).sum()
        penalties = (_PENALTIES.to(values.device) * values.max().clamp_min(1e-12))[:, None]
        shrunk = values / (values + penalties)
        energy = rotated.square().sum(1) / (values + penalties)
        residual = spread - 2 * energy.sum(1) + (energy * shrunk).sum(1)
        freedom = (1 + shrunk.sum(1)) / count
        scores = residual / (1 - freedom).clamp_min(1e-6).square()
        best = penalties[scores.argmin()]
        weight = vectors @ (rotated / (values + best)[:, None])
        return weight, mean_y - mean_x @ weight


def _scale(outputs: Tensor) -> float:
    """The factor at which the mean confidence of softmax(factor * outputs [N, classes]) is halfway between chance and
    certainty: about .5 for many classes."""
    target = (1 / outputs.shape[1] + 1) / 2
    low, high = 0.0, 1e4
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if (middle * outputs).softmax(1).amax(1).mean() < target:
            low = middle
        else:
            high = middle
    return high
