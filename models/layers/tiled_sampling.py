"""Sampled blocks in evaluation that compute the square tiles in which their masks have a position: for GPUs, whose ordinary
convolutions run on a batch of tiles as fast as on a map. The result is that of `models.layers.spatial_sampling`, to rounding.
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.folded_residual import FoldedResidual, Table
from models.layers.rows import Convolution
from models.layers.sparse_sampling import Masks
from models.layers.spatial_sampling import Sampled, Sampling, size_of

SIDE: Final = 8
"""Pixels of a tile, at the size of a convolution's output."""


class Tiles(NamedTuple):
    """Tiles of `side` pixels that hold a position of a mask [N, 1, H, W]: images, rows and columns [k] each, of a grid that
    covers the map."""

    mask: Tensor
    side: int
    at: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, mask: Tensor, side: int) -> Tiles:
        found = F.max_pool2d(mask, side, ceil_mode=True)[:, 0]
        images, rows, columns = found.nonzero(as_tuple=True)
        return cls(mask, side, (images, rows, columns))

    @property
    def grid(self) -> tuple[int, int]:
        height, width = size_of(self.mask)
        return -(-height // self.side), -(-width // self.side)

    @property
    def density(self) -> float:
        return len(self.at[0]) / max(1, len(self.mask) * self.grid[0] * self.grid[1])

    def gather(self, x: Tensor, conv: Convolution) -> Tensor:
        """What a convolution of `x` [N, C, H, W] reads for the tiles: [k, C, h, w], without padding."""
        window, step, border = conv.stride * (self.side - 1) + conv.kernel, conv.stride * self.side, conv.kernel // 2
        more = [
            max(0, (tiles - 1) * step + window - border - side)
            for tiles, side in zip(self.grid, size_of(x), strict=True)
        ]
        windows = F.pad(x, (border, more[1], border, more[0])).unfold(2, window, step).unfold(3, window, step)
        images, rows, columns = self.at
        return windows[images, :, rows, columns].contiguous(memory_format=torch.channels_last)

    def scatter(self, tiles: Tensor) -> Tensor:
        """[k, C, side, side] -> [N, C, H, W], 0 in the other tiles."""
        (down, across), side, channels = self.grid, self.side, tiles.shape[1]
        found = tiles.new_zeros(len(self.mask), down, across, channels, side, side)
        found[self.at] = tiles
        height, width = size_of(self.mask)
        whole = found.permute(0, 3, 1, 4, 2, 5).reshape(len(self.mask), channels, down * side, across * side)
        return whole[:, :, :height, :width].contiguous(memory_format=torch.channels_last)


class TiledBlock(FoldedResidual):
    """A `Sampled` block."""

    def __init__(self, module: Sampled, table: Table, side: int = SIDE) -> None:
        """Raises ValueError for convolutions with groups."""
        super().__init__(module.body, table)
        self.side = side
        self.masks = Masks([cast("Sampling", each) for each in module.masks])
        self.fills: nn.ModuleList | None = module.fills

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.masks.constant else self.on(x, self.masks(x))

    def on(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The block with these masks [N, 1, H', W']."""
        active, total = self.entered(x)
        first, last = Tiles.of(masks[0], self.side), Tiles.of(masks[-1], self.side)
        inner = self._filled(0, self._computed([self.first], active, first, act=True), first.mask)
        rest = [self.second] if self.third is None else [self.second, self.third]
        return self.left(total.add_(self._filled(1, self._computed(rest, inner, last, act=False), last.mask)))

    def _computed(self, convs: list[Convolution], x: Tensor, tiles: Tiles, *, act: bool) -> Tensor:
        """Convolutions with activations between them, of which the others than the first are 1 x 1, at least in the tiles."""
        whole = tiles.density > self.choice(convs[0], (len(x), *size_of(x))).break_even
        found = self.everywhere(convs[0], x) if whole else _unpadded(convs[0], tiles.gather(x, convs[0]))
        for conv in convs[1:]:
            found = self.everywhere(conv, F.relu_(found))
        found = F.relu_(found) if act else found
        return found if whole else tiles.scatter(found)

    def _filled(self, index: int, x: Tensor, mask: Tensor) -> Tensor:
        if self.fills is None:
            return x * mask
        return torch.lerp(self.fills[index](x, mask), x, mask)


def _unpadded(conv: Convolution, x: Tensor) -> Tensor:
    return conv.everywhere(x, product=False, padding=0)
