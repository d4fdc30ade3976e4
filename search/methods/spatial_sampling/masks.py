"""Densities and pictures of a trained network's masks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from paretofit.models.build import Network
from paretofit.models.layers.spatial_sampling import samplings
from paretofit.search.contracts.point import Preprocessing
from paretofit.search.data.loader import Batch

IMAGES: Final = 4
"""Images in a picture."""
_SIDE: Final = 96
_GAP: Final = 4
_MOST: Final = 12
"""Masks beside an image; deep networks show some at equal distances."""


@torch.inference_mode()
def densities(network: Network, batches: Iterable[Batch]) -> list[float]:
    """Mean share of positions that each mask computes. Synchronizes the host with the device once."""
    sums: Tensor | None = None
    total = 0
    for images, _ in batches:
        shares = torch.stack([(mask > 0).float().mean() for mask in of(network, images)]).double() * len(images)
        sums = shares if sums is None else sums + shares
        total += len(images)
    if sums is None:
        raise ValueError("densities need at least one image")
    return [float(value) for value in (sums / total).tolist()]


@torch.inference_mode()
def of(network: Network, images: Tensor) -> list[Tensor]:
    """Each mask [N, 1, H, W] of images [N, C, H, W], in the order of the blocks."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: object, mask: Tensor) -> None:
        del module, given
        found.append(mask)

    hooks = [each.register_forward_hook(keep) for each in samplings(network)]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def draw(path: Path, network: Network, images: Tensor, preprocessing: Preprocessing) -> None:
    """A picture (PNG): each row shows an image, the sum of its masks (lighter: computed more often), and the masks of
    its blocks from the first to the last."""
    found = of(network, images[:IMAGES])
    every = [_scaled((mask > 0).float()) for mask in found]
    mean = torch.stack(every).mean(0)
    shown = [every[round(i)] for i in np.linspace(0, len(every) - 1, min(_MOST, len(every)))]
    columns = [_pixels(images[:IMAGES], preprocessing), *(_gray(mask) for mask in (mean, *shown))]
    step = _SIDE + _GAP
    canvas = np.full((len(columns[0]) * step - _GAP, len(columns) * step - _GAP, 3), 255, dtype=np.uint8)
    for column, pictures in enumerate(columns):
        for line, picture in enumerate(pictures):
            canvas[line * step : line * step + _SIDE, column * step : column * step + _SIDE] = picture
    Image.fromarray(canvas).save(path, "PNG")


def _scaled(mask: Tensor) -> Tensor:
    """[N, 1, H, W] -> [N, side, side], each position a rectangle."""
    return nn.functional.interpolate(mask, (_SIDE, _SIDE), mode="nearest")[:, 0].cpu()


def _gray(maps: Tensor) -> NDArray[np.uint8]:
    """[N, H, W] in [0, 1] -> [N, H, W, 3]."""
    values = (255 * maps).round().to(torch.uint8).numpy()
    return np.repeat(values[..., None], 3, axis=-1)


def _pixels(images: Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Normalized images [N, C, H, W] -> [N, side, side, 3]: gray for one channel, else the first three channels."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    values = (images.cpu() * std + mean).clamp(0, 1)
    values = values[:, :3] if values.shape[1] >= 3 else values[:, :1].expand(-1, 3, -1, -1)
    sized = nn.functional.interpolate(values, (_SIDE, _SIDE), mode="nearest")
    return (255 * sized).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
