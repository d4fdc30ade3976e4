"""Batched color augmentation, compared with single operations on single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from paretofit.search.data import colors
from paretofit.search.data.augmentation import Augmentation

IMAGES = 64
RECIPE = Augmentation(colour_jitter=0.4, pca_lighting=0.1)


def pixels(channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (IMAGES, channels, 7, 5), generator=torch.Generator().manual_seed(0)).byte()


def drawn(recipe: Augmentation = RECIPE, count: int = IMAGES) -> colors.Floats:
    draws = colors.draw(recipe, np.random.default_rng(0), count)
    assert draws is not None
    return draws


def luma(image: Tensor) -> Tensor:
    return 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2] if len(image) == 3 else image[0]


def jittered(image: Tensor, row: list[float]) -> Tensor:
    """torchvision's definitions, image [channels, height, width]."""
    image = image.double()
    for place in range(3):
        factor, is_saturation, is_contrast = row[3 * place : 3 * place + 3]
        if is_saturation:
            other = luma(image).expand_as(image)
        elif is_contrast:
            other = luma(image).mean().expand_as(image)
        else:
            other = torch.zeros_like(image)
        image = (factor * image + (1 - factor) * other).clamp(0, 255)
    shift = torch.tensor(row[9:], dtype=torch.float64)[:, None, None]
    return image + shift if len(image) == 3 else image


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_equals_single_image_augmentation(channels: int) -> None:
    batch, rows = pixels(channels), drawn()
    result = colors.apply(batch, torch.from_numpy(rows))
    assert result.dtype == torch.float32
    for image, row, out in zip(batch, rows.tolist(), result, strict=True):
        torch.testing.assert_close(out.double(), jittered(image, row), atol=1e-3, rtol=0)


def test_factors_orders_and_shifts_have_published_distributions() -> None:
    rows = drawn(count=60_000)
    factors = rows[:, 0:9:3]
    assert (factors.min(), factors.max()) == (pytest.approx(0.6, abs=1e-3), pytest.approx(1.4, abs=1e-3))
    assert factors.mean() == pytest.approx(1, abs=2e-3)
    # Each of the three operations is equally often at each position, and occurs once per image.
    operations = rows[:, 1:9:3] + 2 * rows[:, 2:9:3]
    assert (np.sort(operations, axis=1) == [0, 1, 2]).all()
    orders, counts = np.unique(operations, axis=0, return_counts=True)
    assert len(orders) == 6
    assert counts / len(rows) == pytest.approx([1 / 6] * 6, abs=0.01)
    # The shifts have the covariance of ImageNet's colors, with 0.1 of its eigenvalues as standard deviations.
    shifts = rows[:, 9:] / 255
    components = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = components @ np.diag((0.1 * np.array([0.2175, 0.0188, 0.0045])) ** 2) @ components.T
    assert np.cov(shifts.T) == pytest.approx(expected, abs=0.02 * expected.max())


def test_disabled_operation_gets_neutral_parameters() -> None:
    light = colors.apply(pixels(), torch.from_numpy(drawn(Augmentation(pca_lighting=0.1)))) - pixels()
    torch.testing.assert_close(light, light[:, :, :1, :1].expand_as(light), atol=1e-3, rtol=0)
    assert light.abs().max() > 1
    assert (drawn(Augmentation(colour_jitter=0.4))[:, 9:] == 0).all()
    assert colors.draw(Augmentation(), np.random.default_rng(0), IMAGES) is None
