"""Crop boxes of a batch, sampled on the host: numpy, int64 [8, batch] in the order of `sampling.Boxes`: offset (filled
in by the caller with the pixels), height, width, top, left, box height, box width, flip."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from paretofit.search.data.augmentation import Augmentation

Integers = NDArray[np.int64]

OFFSET = 0
RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def center(heights: Integers, widths: Integers, size: tuple[int, int]) -> Integers:
    """Center box of each image; for an image smaller than `size` it extends beyond both sides."""
    zeros = np.zeros_like(heights)
    tops, lefts = (heights - size[0]) // 2, (widths - size[1]) // 2
    return np.stack([zeros, heights, widths, tops, lefts, zeros + size[0], zeros + size[1], zeros])


def enlarged(heights: Integers, widths: Integers, size: tuple[int, int]) -> Integers:
    """As `center`; for an image smaller than `size` in either direction, its largest centered box of that aspect ratio
    (a fractional side is rounded half up, at least 1), to be enlarged to `size`."""
    cuts = center(heights, widths, size)
    small = (heights < size[0]) | (widths < size[1])
    tall = np.minimum(heights, np.maximum((2 * widths * size[0] + size[1]) // (2 * size[1]), 1))
    wide = np.minimum(widths, np.maximum((2 * heights * size[1] + size[0]) // (2 * size[0]), 1))
    cuts[3:7] = np.where(small, np.stack([(heights - tall) // 2, (widths - wide) // 2, tall, wide]), cuts[3:7])
    return cuts


def draw(
    recipe: Augmentation, random: np.random.Generator, heights: Integers, widths: Integers, size: tuple[int, int]
) -> Integers:
    """Boxes according to the augmentation."""
    if recipe.kind == "resized_crop":
        cuts = _resized_crop(recipe.minimum_scale, random, heights, widths)
    else:
        cuts = center(heights, widths, size)
        if recipe.kind == "pad_crop":
            cuts[3] = _shift(random, cuts[3], heights, size[0], recipe.padding)
            cuts[4] = _shift(random, cuts[4], widths, size[1], recipe.padding)
    if recipe.flip:
        cuts[7] = random.integers(0, 2, len(heights))
    return cuts


def _shift(random: np.random.Generator, centred: Integers, sides: Integers, side: int, padding: int) -> Integers:
    """A random position in the padded image; if that is still smaller than the crop, centered."""
    room = sides + 2 * padding - side
    return np.where(room >= 0, random.integers(0, np.maximum(room, 0) + 1) - padding, centred)


def _resized_crop(minimum_scale: float, random: np.random.Generator, heights: Integers, widths: Integers) -> Integers:
    """A random area and aspect ratio (log-uniform in `RATIO`): the first of ten draws that fits, else the largest
    centered box of an allowed ratio. Szegedy et al., CVPR 2015, in torchvision's form."""
    count = len(heights)
    area = random.uniform(minimum_scale, 1, (_TRIES, count)) * (heights * widths)
    ratio = np.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1]), (_TRIES, count)))
    tall, wide = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
    fits = (tall >= 1) & (tall <= heights) & (wide >= 1) & (wide <= widths)
    first, any_fits = fits.argmax(0), fits.any(0)
    box_heights = np.where(any_fits, tall[first, range(count)], _fallback(heights, widths, 1 / RATIO[0]))
    box_widths = np.where(any_fits, wide[first, range(count)], _fallback(widths, heights, RATIO[1]))
    box_heights, box_widths = box_heights.astype(np.int64), box_widths.astype(np.int64)
    tops, lefts = heights - box_heights, widths - box_widths
    corner = random.random((2, count))
    tops = np.where(any_fits, np.floor(corner[0] * (tops + 1)), tops // 2).astype(np.int64)
    lefts = np.where(any_fits, np.floor(corner[1] * (lefts + 1)), lefts // 2).astype(np.int64)
    zeros = np.zeros_like(heights)
    return np.stack([zeros, heights, widths, tops, lefts, box_heights, box_widths, zeros])


def _fallback(sides: Integers, others: Integers, most: float) -> NDArray[np.float64]:
    """Side of the largest box whose side is at most `most` times the other."""
    side: NDArray[np.float64] = np.maximum(np.minimum(sides, np.rint(others * most)), 1)
    return side
