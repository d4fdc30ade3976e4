"""The closed-form ridge classifier."""

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
    """Images whose classes differ in brightness, or not at all."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % CLASSES
    images = 0.1 * torch.randn(count, 1, 16, 16, generator=generator)
    if separable:
        images = images + labels.view(-1, 1, 1, 1)
    return [Batch(images[i : i + 16], labels[i : i + 16]) for i in range(0, count, 16)]


def sums(x: Tensor, y: Tensor) -> _Sums:
    result = _Sums.zeros(x.shape[1], y.shape[1], torch.device("cpu"))
    for begin in range(0, len(x), 7):
        result.add(x[begin : begin + 7], y[begin : begin + 7])
    return result


def drawn(count: int, features: int, noise: float) -> tuple[Tensor, Tensor]:
    """Features of very different scales, and one-hot classes that are a noisy linear function of them."""
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
    """Generalized cross-validation score, computed directly from the hat matrix."""
    a = np.hstack([(x - x.mean(0)).numpy()])
    hat = np.ones((len(a), len(a))) / len(a) + a @ np.linalg.solve(
        a.T @ a / len(a) + penalty * np.eye(a.shape[1]), a.T / len(a)
    )
    residual = y.numpy() - hat @ y.numpy()
    return float((residual**2).sum() / len(a) / (1 - np.trace(hat) / len(a)) ** 2)


@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_solution_equals_least_squares_with_the_best_penalty(noise: float) -> None:
    x, y = drawn(80, 12, noise)
    weight, bias = sums(x, y).solve(len(x))
    scores = [gcv(x, y, penalty) for penalty in penalties(x)]
    best = penalties(x)[int(np.argmin(scores))]
    expected, intercept = direct(x, y, best)
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(bias.numpy(), intercept, rtol=1e-5, atol=1e-7)


def test_penalty_grows_with_the_noise() -> None:
    norms = []
    for noise in (0.01, 1.0, 100.0):
        x, y = drawn(80, 12, noise)
        weight, _ = sums(x, y).solve(len(x))
        norms.append(float(weight.norm()))
    assert norms == sorted(norms, reverse=True)


def test_penalty_helps_with_more_features_than_images() -> None:
    """Without a penalty the fit is exact, and no better than guessing on other images."""
    x, y = drawn(60, 50, 1.0)
    seen, other = slice(0, 30), slice(30, 60)
    weight, bias = sums(x[seen], y[seen]).solve(30)
    exact, intercept = direct(x[seen], y[seen], 1e-14)

    def error(w: Tensor, b: Tensor) -> float:
        return float((x[other] @ w + b - y[other]).square().mean())

    assert error(weight, bias) < 0.8 * error(torch.from_numpy(exact), torch.from_numpy(intercept))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_mean_confidence_is_halfway_between_chance_and_certainty(classes: int) -> None:
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(500, classes, generator=generator, dtype=torch.float64)
    confidence = (_scale(outputs) * outputs).softmax(1).amax(1).mean().item()
    assert confidence == pytest.approx((1 / classes + 1) / 2, abs=1e-3)


def test_separable_images_are_classified_with_a_float32_head() -> None:
    model = network()
    head = ridge.fit(model, batches(), CLASSES)
    assert (head.weight.dtype, head.bias.dtype) == (torch.float32, torch.float32)
    assert (head.weight.shape[0], head.bias.shape) == (CLASSES, (CLASSES,))
    assert head.weight.is_contiguous()
    for images, labels in batches():
        logits = ridge.features(model, images) @ head.weight.t() + head.bias
        assert torch.equal(logits.argmax(1), labels)
    model.blocks[-1].linear.weight.data.copy_(head.weight)  # type: ignore[operator, union-attr]
    model.blocks[-1].linear.bias.data.copy_(head.bias)  # type: ignore[operator, union-attr]
    images, labels = batches()[0]
    assert torch.equal(model(images).argmax(1), labels)


def test_features_equal_the_classifier_inputs() -> None:
    model = network()
    images = batches()[0].images
    linear = model.blocks[-1].linear
    expected = ridge.features(model, images) @ linear.weight.t() + linear.bias  # type: ignore[operator, union-attr]
    torch.testing.assert_close(model(images), expected)


def test_batching_does_not_change_the_fit() -> None:
    model = network()
    images, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    single_batch = ridge.fit(model, [Batch(images, labels)], CLASSES)
    parts = ridge.fit(model, batches(), CLASSES)
    torch.testing.assert_close(single_batch.weight, parts.weight, rtol=1e-3, atol=1e-4)


def test_uninformative_images_give_a_finite_fit() -> None:
    model = network()
    head = ridge.fit(model, batches(300, separable=False), CLASSES)
    assert torch.isfinite(head.weight).all()
    logits = torch.cat([ridge.features(model, images) @ head.weight.t() + head.bias for images, _ in batches()])
    assert torch.isfinite(logits).all()


def test_empty_batches_are_rejected() -> None:
    with pytest.raises(ValueError, match="at least one training image"):
        ridge.fit(network(), [], CLASSES)
