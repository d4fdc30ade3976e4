"""Sampled blocks in evaluation that compute the square tiles in which their masks have a position, for GPUs, whose
convolutions run on a batch of tiles as fast as on a map. The result equals `paretofit.models.layers.spatial_sampling`,
up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.layers.folded_residual import Table, extent
from paretofit.models.layers.masked_residual import MaskedBlock
from paretofit.models.layers.rows import Convolution
from paretofit.models.layers.spatial_sampling import Sampled, size_of

SIDE: Final = 8
"""Side of a tile in pixels, at the size of a convolution's output, for masks by positions."""


class Tiles(NamedTuple):
    """Tiles of `side` pixels that hold a position of a mask [N, 1, H, W]: images, rows and columns [k] each, of a grid
    that covers the map."""

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
        """Input of a convolution of `x` [N, C, H, W] for the tiles: [k, C, h, w], without padding."""
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


class TiledBlock(MaskedBlock):
    """Tiled form of a `Sampled` block. Its tiles are those of its masks, or of 8 pixels for masks by positions."""

    def __init__(self, module: Sampled, table: Table) -> None:
        """Raises ValueError for convolutions with groups."""
        super().__init__(module, table)
        tile = self.masks.samplings[0].tile
        self.side = tile if tile > 1 else SIDE
        self.fills: nn.ModuleList | None = module.fills

    @property
    def zero(self) -> bool:
        return self.fills is None

    @property
    def grain(self) -> int:
        return self.side

    def on(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        active, total = self.entered(x)
        inner = self._filled(0, self._computed(0, active, masks[0]), masks[0])
        return self.left(total.add_(self._filled(1, self._computed(1, inner, masks[-1]), masks[-1])))

    def ways(self, index: int, x: Tensor, mask: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
        # Includes finding the tiles.
        return (
            lambda: self._in_tiles(index, x, Tiles.of(mask, self.side)),
            lambda: self._chain(index, self.everywhere(self._group(index)[0], x)),
        )

    def _group(self, index: int) -> list[Convolution]:
        """The convolutions of a mask; all but the first are 1 x 1."""
        if index == 0:
            return [self.first]
        return [self.second] if self.third is None else [self.second, self.third]

    def _computed(self, index: int, x: Tensor, mask: Tensor) -> Tensor:
        """The convolutions of a mask, computed at least in its tiles."""
        first, tiles = self._group(index)[0], Tiles.of(mask, self.side)
        if tiles.density > self.choice(first, extent(x)).break_even:
            return self._chain(index, self.everywhere(first, x))
        return self._in_tiles(index, x, tiles)

    def _in_tiles(self, index: int, x: Tensor, tiles: Tiles) -> Tensor:
        first = self._group(index)[0]
        made = first.everywhere(tiles.gather(x, first), product=False, padding=0)
        return tiles.scatter(self._chain(index, made))

    def _chain(self, index: int, found: Tensor) -> Tensor:
        """The steps after the first convolution of a mask."""
        for conv in self._group(index)[1:]:
            found = self.everywhere(conv, F.relu_(found))
        return F.relu_(found) if index == 0 else found

    def _filled(self, index: int, x: Tensor, mask: Tensor) -> Tensor:
        if self.fills is None:
            return x.mul_(mask)
        return torch.lerp(self.fills[index](x, mask), x, mask)
