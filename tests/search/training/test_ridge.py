"""The classifier in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from paretofit.models.build import Network, build
from paretofit.models.families.registry import architecture
from paretofit.search.data.loader import Batch
from paretofit.search.training import ridge
from paretofit.search.training.ridge import _PENALTIES, _scale, _Sums

CLASSES = 3


def network() -> Network:
    torch.manual_seed(0)
    return build(architecture("wrn_10_1", nominal=16, classes=CLASSES, channels=1, base_width=0.5)).eval()


def batches(count: int = 60, *, separable: bool = True) -> list[Batch]:
    """Images whose classes differ in brightness, or in nothing."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % CLASSES
    images = 0.1 * torch.randn(count, 1, 16, 16, generator=generator)
    if separable:
        images = images + labels.view(-1, 1, 1, 1)
    return [Batch(images[i : i + 16], labels[i : i + 16]) for i in range(0, count, 16)]


def sums(x: Tensor, y: Tensor) -> _Sums:
    found = _Sums.zeros(x.shape[1], y.shape[1], torch.device("cpu"))
    for begin in range(0, len(x), 7):
        found.add(x[begin : begin + 7], y[begin : begin + 7])
    return found


def drawn(count: int, features: int, noise: float) -> tuple[Tensor, Tensor]:
    """Features of very different spreads, and one-hot classes that a linear function of them tells up to the noise."""
    generator = torch.Generator().manual_seed(2)
    x = (
        torch.randn(count, features, generator=generator, dtype=torch.float64)
        * torch.logspace(0, -2, features).double()
    )
    true = torch.randn(features, CLASSES, generator=generator, dtype=torch.float64)
    scores = x @ true + noise * torch.randn(count, CLASSES, generator=generator, dtype=torch.float64)
    return x + 3, torch.nn.functional.one_hot(scores.argmax(1), CLASSES).double()


def direct(x: Tensor, y: Tensor, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """min ||x w + b - y||^2 / n + penalty ||w||^2, the intercept unpenalized, as one least-squares problem."""
    a, b = x.numpy(), y.numpy()
    count, features = a.shape
    top = np.hstack([a, np.ones((count, 1))]) / np.sqrt(count)
    below = np.hstack([np.sqrt(penalty) * np.eye(features), np.zeros((features, 1))])
    right = np.vstack([b / np.sqrt(count), np.zeros((features, b.shape[1]))])
    solution = np.linalg.lstsq(np.vstack([top, below]), right, rcond=None)[0]
    return solution[:-1], solution[-1]


def penalties(x: Tensor) -> list[float]:
    centered = (x - x.mean(0)).numpy()
    return [float(p * np.linalg.eigvalsh(centered.T @ centered / len(centered)).max()) for p in _PENALTIES.numpy()]


def gcv(x: Tensor, y: Tensor, penalty: float) -> float:
    """Residual sum of squares per image over the squared share of free residuals, from the hat matrix itself."""
    a = np.hstack([(x - x.mean(0)).numpy()])
    hat = np.ones((len(a), len(a))) / len(a) + a @ np.linalg.solve(
        a.T @ a / len(a) + penalty * np.eye(a.shape[1]), a.T / len(a)
    )
    residual = y.numpy() - hat @ y.numpy()
    return float((residual**2).sum() / len(a) / (1 - np.trace(hat) / len(a)) ** 2)


@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_the_solution_is_that_of_the_penalized_least_squares_with_the_best_penalty(noise: float) -> None:
    x, y = drawn(80, 12, noise)
    weight, bias = sums(x, y).solve(len(x))
    scores = [gcv(x, y, penalty) for penalty in penalties(x)]
    best = penalties(x)[int(np.argmin(scores))]
    expected, intercept = direct(x, y, best)
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(bias.numpy(), intercept, rtol=1e-5, atol=1e-7)


def test_the_penalty_grows_with_the_noise() -> None:
    norms = []
    for noise in (0.01, 1.0, 100.0):
        x, y = drawn(80, 12, noise)
        weight, _ = sums(x, y).solve(len(x))
        norms.append(float(weight.norm()))
    assert norms == sorted(norms, reverse=True)


def test_the_penalty_generalizes_where_there_are_more_features_than_images() -> None:
    """Without one the fit is exact, and as good as a guess on other images."""
    x, y = drawn(60, 50, 1.0)
    seen, other = slice(0, 30), slice(30, 60)
    weight, bias = sums(x[seen], y[seen]).solve(30)
    exact, intercept = direct(x[seen], y[seen], 1e-14)

    def error(w: Tensor, b: Tensor) -> float:
        return float((x[other] @ w + b - y[other]).square().mean())

    assert error(weight, bias) < 0.8 * error(torch.from_numpy(exact), torch.from_numpy(intercept))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_mean_confidence_lies_halfway_between_chance_and_certainty(classes: int) -> None:
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(500, classes, generator=generator, dtype=torch.float64)
    confidence = (_scale(outputs) * outputs).softmax(1).amax(1).mean().item()
    assert confidence == pytest.approx((1 / classes + 1) / 2, abs=1e-3)


def test_separable_images_are_classified_and_the_head_is_float32() -> None:
    made = network()
    head = ridge.fit(made, batches(), CLASSES)
    assert (head.weight.dtype, head.bias.dtype) == (torch.float32, torch.float32)
    assert (head.weight.shape[0], head.bias.shape) == (CLASSES, (CLASSES,))
    assert head.weight.is_contiguous()
    for images, labels in batches():
        logits = ridge.features(made, images) @ head.weight.t() + head.bias
        assert torch.equal(logits.argmax(1), labels)
    made.blocks[-1].linear.weight.data.copy_(head.weight)  # type: ignore[operator, union-attr]
    made.blocks[-1].linear.bias.data.copy_(head.bias)  # type: ignore[operator, union-attr]
    images, labels = batches()[0]
    assert torch.equal(made(images).argmax(1), labels)


def test_the_features_are_what_the_classifier_gets() -> None:
    made = network()
    images = batches()[0].images
    linear = made.blocks[-1].linear
    expected = ridge.features(made, images) @ linear.weight.t() + linear.bias  # type: ignore[operator, union-attr]
    torch.testing.assert_close(made(images), expected)


def test_how_the_images_are_batched_does_not_matter() -> None:
    made = network()
    images, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    whole = ridge.fit(made, [Batch(images, labels)], CLASSES)
    parts = ridge.fit(made, batches(), CLASSES)
    torch.testing.assert_close(whole.weight, parts.weight, rtol=1e-3, atol=1e-4)


def test_images_that_tell_nothing_leave_it_finite() -> None:
    made = network()
    head = ridge.fit(made, batches(300, separable=False), CLASSES)
    assert torch.isfinite(head.weight).all()
    answers = torch.cat([ridge.features(made, images) @ head.weight.t() + head.bias for images, _ in batches()])
    assert torch.isfinite(answers).all()


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one training image"):
        ridge.fit(network(), [], CLASSES)
