"""Color augmentation of a batch: sampled on the host, one row per image; applied on the device, without
synchronization.

Brightness, contrast and saturation as in torchvision's ColorJitter, in random order, then lighting along the principal
components of ImageNet's colors (Krizhevsky et al., AlexNet, 2012, section 4.1).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretofit.search.data.augmentation import Augmentation

Floats = NDArray[np.float32]

COLUMNS: Final = 12
"""Columns: three times a factor, 1 if it is the saturation, 1 if it is the contrast; then the shifts of red, green and
blue."""

_GREY: Final = (0.2989, 0.587, 0.114)
_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)
_VARIANCES: Final = (0.2175, 0.0188, 0.0045)
_COMPONENTS: Final = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of ImageNet's pixels in [0, 1], one per column."""


def draw(recipe: Augmentation, random: np.random.Generator, count: int) -> Floats | None:
    """float32 [count, COLUMNS], shifts in [0, 255]; None if the augmentation does not change colors."""
    if not recipe.colour_jitter and not recipe.pca_lighting:
        return None
    drawn = np.zeros((count, COLUMNS), dtype=np.float32)
    strength = recipe.colour_jitter
    operations = random.permuted(np.tile(np.arange(3), (count, 1)), axis=1)
    drawn[:, 0:9:3] = random.uniform(1 - strength, 1 + strength, (count, 3))
    drawn[:, 1:9:3] = operations == _SATURATION
    drawn[:, 2:9:3] = operations == _CONTRAST
    lights = random.normal(0, 1, (count, 3)) * recipe.pca_lighting * np.array(_VARIANCES)
    drawn[:, 9:] = 255 * lights @ np.array(_COMPONENTS).T
    return drawn


def apply(pixels: Tensor, drawn: Tensor) -> Tensor:
    """Apply to pixels in [0, 255], [batch, 1 or 3, height, width] -> float32 of the same shape, in [0, 255] before the
    lighting is added. `drawn` is float32 [batch, COLUMNS], on the same device."""
    x = pixels.to(torch.float32)
    columns = drawn[:, :, None, None, None].unbind(1)
    for factor, is_saturation, is_contrast in zip(columns[0:9:3], columns[1:9:3], columns[2:9:3], strict=True):
        gray = _gray(x)
        # Each operation interpolates between the pixels and a base: black, the image's mean gray, or the pixel's own
        # gray.
        origin = is_saturation * gray + is_contrast * gray.mean((2, 3), keepdim=True)
        x = origin.lerp(x, factor).clamp_(0, 255)
    return x + drawn[:, 9:, None, None] if x.shape[1] == 3 else x


def _gray(x: Tensor) -> Tensor:
    if x.shape[1] != len(_GREY):
        return x
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
