"""Residual blocks that are computed at the positions of a mask: Xie et al., ECCV 2020 (arXiv 2003.08866). This form
computes everything and masks it. It is used in training, and as the reference for all other forms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models import build
from paretofit.models.blocks import PreactivationBasic, ResidualBasic, ResidualBottleneck
from paretofit.models.kinds import sampling
from paretofit.models.layers.batch_norm import norm_act
from paretofit.models.layers.convolution import convolve
from paretofit.models.layers.interpolation import Interpolation
from paretofit.models.layers.noise import logistic
from paretofit.models.trace import Size

INITIAL_LOGIT: Final = 3.0
"""A probability of .953, as published."""
_STREAMS: Final = 8
"""Maximum number of random streams per block."""
GATE_RATE: Final = 0.1
"""Factor of a gate's gradient for its predictor."""


class Sampling(nn.Module):
    """A block's input [N, C, H, W] -> mask [N, 1, H', W']: 1 where features are computed; in training between 0 and 1.

    The trainer sets `tau`, the temperature: a number makes masks soft, None (the default) hard.
    """

    tau: float | None = None

    def __init__(self, block: sampling.Sampled, index: int, stride: int) -> None:
        super().__init__()
        self.draw = block.draw
        self.density = block.densities[index]
        self.grid, self.tile = block.grid, block.tile
        self.seed, self.stream = block.seed, block.place * _STREAMS + index
        self._kept: dict[tuple[Size, torch.device], Tensor] = {}
        self.predict = nn.Conv2d(block.in_channels, 1, 3, stride, 1)
        nn.init.zeros_(self.predict.weight)
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias, 1.0 if self.draw == "gated" else INITIAL_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.predict(x).float()
        mask = self.hard(logits) if self.tau is None else self._soft(logits, self.tau)
        return mask.to(x.dtype)

    def sigmoids(self, logits: Tensor) -> Tensor:
        """[N, 1, H, W] -> logit of each position, or of its tile."""
        return self._everywhere(torch.sigmoid(self._of_tiles(logits)), logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """[N, 1, H, W] -> probability that each position is computed. Without noise it is 0 or 1 with the gradient of
        the sigmoid, because probabilities near one half would not reflect how many are above."""
        tiles = self._of_tiles(logits)
        found = torch.sigmoid(tiles)
        if self.draw in ("deterministic", "gated"):
            found = (tiles > 0).float() + found - found.detach()
        return self._everywhere(self._with_grid(found), logits)

    def hard(self, logits: Tensor) -> Tensor:
        """[N, 1, H, W] -> float32 0 and 1; with draw `gated` the factors of computed positions. The same logits give
        the same mask."""
        return self._everywhere(self._drawn(self._of_tiles(logits)), logits)

    def noise(self, size: Size, device: torch.device) -> Tensor:
        """Logistic [1, 1, height, width], cached on the device; an exported program contains its own."""
        if torch.compiler.is_compiling():
            return logistic(self.seed, self.stream, size, device)
        if (size, device) not in self._kept:
            with torch.inference_mode(mode=False):
                self._kept[size, device] = logistic(self.seed, self.stream, size, device)
        return self._kept[size, device]

    def _drawn(self, logits: Tensor) -> Tensor:
        if self.draw == "gated":
            # Gates multiply the inputs of later gates, so they would grow without a bound.
            return F.relu6(logits)
        if self.draw == "deterministic":
            return self._with_grid((logits >= 0).float())
        ranked = logits + self.noise(size_of(logits), logits.device)
        if self.draw == "stochastic":
            return self._with_grid((ranked > 0).float())
        positions = ranked.shape[-2] * ranked.shape[-1]
        if self.grid:
            # Above all others, in their own order, because a budget may be smaller than the grid.
            span = ranked.amax((2, 3), keepdim=True) - ranked.amin((2, 3), keepdim=True)
            ranked = ranked + (2 * span + 1) * self._grid(ranked)
        taken = ranked.flatten(1).topk(sampling.chosen(self.density, positions), sorted=False).indices
        return torch.zeros_like(ranked).flatten(1).scatter(1, taken, 1.0).view_as(ranked)

    def _soft(self, logits: Tensor, tau: float) -> Tensor:
        """Gumbel-softmax of two classes is a sigmoid with logistic noise."""
        tiles = self._of_tiles(logits)
        if self.draw == "gated":
            # The gradient sums over all channels: with the network's learning rate gates would jump to values without
            # gradient.
            return self._everywhere(F.relu6(torch.lerp(tiles.detach(), tiles, GATE_RATE)), logits)
        if self.draw != "deterministic":
            tiles = tiles + torch.logit(torch.rand_like(tiles).clamp_(1e-6, 1 - 1e-6))
        return self._everywhere(self._with_grid(torch.sigmoid(tiles / tau)), logits)

    def _of_tiles(self, logits: Tensor) -> Tensor:
        """[N, 1, H, W] -> the mean of each tile; tiles at the border average their actual positions."""
        if self.tile == 1:
            return logits
        height, width = size_of(logits)
        border = (0, -width % self.tile, 0, -height % self.tile)
        sums = F.avg_pool2d(F.pad(logits, border), self.tile)
        return sums / F.avg_pool2d(F.pad(torch.ones_like(logits[:1]), border), self.tile)

    def _everywhere(self, tiles: Tensor, like: Tensor) -> Tensor:
        """Expand values of tiles to their positions."""
        if self.tile == 1:
            return tiles
        height, width = size_of(like)
        return tiles.repeat_interleave(self.tile, 2).repeat_interleave(self.tile, 3)[:, :, :height, :width]

    def _with_grid(self, mask: Tensor) -> Tensor:
        return torch.maximum(mask, self._grid(mask)) if self.grid and self.draw != "gated" else mask

    def _grid(self, mask: Tensor) -> Tensor:
        rows, columns = (self._line(side, mask.device) for side in size_of(mask))
        return (rows[:, None] & columns).to(mask.dtype)

    def _line(self, side: int, device: torch.device) -> Tensor:
        """The center of each `grid` positions; at the border the last position if the center is missing."""
        at = torch.arange(side, device=device)
        within = at % self.grid
        return (within == self.grid // 2) | ((at == side - 1) & (within < self.grid // 2))


class Sampled(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']."""

    def __init__(self, block: sampling.Sampled) -> None:
        super().__init__()
        self.body = build.module(block.body)
        self.masks = nn.ModuleList(Sampling(block, i, stride) for i, stride in enumerate(block.strides))
        zero = block.fill == "zero"
        self.fills = None if zero else nn.ModuleList(Interpolation(block.fill, block.window) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        masks = [mask(x) for mask in self.masks]
        match self.body:
            case ResidualBottleneck() as body:
                out = self._filled(0, body.reduce(x), masks)
                out = self._filled(1, body.expand(body.spatial(out)), masks)
                total = body.act(out + (x if body.shortcut is None else body.shortcut(x)))
            case ResidualBasic() as body:
                out = self._filled(0, body.first(x), masks)
                out = self._filled(1, body.second(out), masks)
                total = body.act(out + (x if body.shortcut is None else body.shortcut(x)))
            case PreactivationBasic() as body:
                active = norm_act(x, body.norm1, body.act1)
                shortcut = x if body.shortcut is None else convolve(active, body.shortcut)
                out = self._filled(0, norm_act(body.conv1(active), body.norm2, body.act2), masks)
                total = self._filled(1, body.conv2(out), masks) + shortcut
            case _:
                raise TypeError(f"{type(self.body).__name__} is not a residual block")
        return cast("Tensor", total)

    def _filled(self, index: int, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The computed features, and interpolated ones elsewhere."""
        mask = masks[min(index, len(masks) - 1)]
        if self.fills is None:
            return x * mask
        return torch.lerp(self.fills[index](x, mask), x, mask)


def samplings(network: nn.Module) -> Iterator[Sampling]:
    """The masks of a network, in the order of `paretofit.models.kinds.sampling.densities`."""
    return (module for module in network.modules() if isinstance(module, Sampling))


def set_temperature(network: nn.Module, tau: float | None) -> None:
    """Set a temperature for soft masks, or None for hard ones."""
    for each in samplings(network):
        each.tau = tau


def size_of(x: Tensor) -> Size:
    """Height and width of a map."""
    return x.shape[-2], x.shape[-1]
