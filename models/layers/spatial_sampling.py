"""Residual blocks that are computed where a mask says: Xie et al., ECCV 2020 (arXiv 2003.08866). This form computes
everything and masks it, which is what training needs and what every other form is held against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import torch
from torch import Tensor, nn

from models import build
from models.blocks import PreactivationBasic, ResidualBasic, ResidualBottleneck
from models.kinds import sampling
from models.layers.batch_norm import norm_act
from models.layers.convolution import convolve
from models.layers.interpolation import Interpolation
from models.layers.noise import logistic
from models.trace import Size

INITIAL_LOGIT: Final = 3.0
"""A probability of .953, as published."""
_STREAMS: Final = 8
"""Draws that one block may have."""


class Sampling(nn.Module):
    """A block's input [N, C, H, W] -> mask [N, 1, H', W']: 1 where features are computed; in training between 0 and 1.

    `tau`, the temperature, belongs to whoever trains: a number makes masks soft, None (at first) hard.
    """

    tau: float | None = None

    def __init__(self, block: sampling.Sampled, index: int, stride: int) -> None:
        super().__init__()
        self.draw = block.draw
        self.density = block.densities[index]
        self.grid = block.grid
        self.seed, self.stream = block.seed, block.place * _STREAMS + index
        self.predict = nn.Conv2d(block.in_channels, 1, 3, stride, 1)
        nn.init.zeros_(self.predict.weight)
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias, 1.0 if self.draw == "gated" else INITIAL_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.predict(x).float()
        if self.tau is not None:
            return self._soft(logits, self.tau).to(x.dtype)
        noise = logistic(self.seed, self.stream, size_of(logits), logits.device) if self.noisy else None
        mask = self.hard(logits, noise)
        return mask.to(x.dtype)

    def probabilities(self, logits: Tensor) -> Tensor:
        """[N, 1, H, W] -> how probable it is that each position is computed. Without noise that is 0 or 1, and its gradient that
        of the sigmoid: probabilities near one half would tell nothing of how many are above."""
        found = torch.sigmoid(logits)
        if self.draw in ("deterministic", "gated"):
            found = (logits > 0).float() + found - found.detach()
        return self._with_grid(found)

    @property
    def noisy(self) -> bool:
        """Whether hard masks need noise."""
        return self.draw in ("stochastic", "budget")

    def hard(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """[N, 1, H, W] -> float32 of 0 and 1; of the draw `gated` the factors of what is computed. `noise`: logistic [1, 1, H,
        W]. The same logits give the same mask."""
        if self.draw == "gated":
            return logits.relu()
        if self.draw == "deterministic":
            return self._with_grid((logits >= 0).float())
        ranked = logits if noise is None else logits + noise
        if self.draw == "stochastic":
            return self._with_grid((ranked > 0).float())
        positions = ranked.shape[-2] * ranked.shape[-1]
        if self.grid:
            ranked = ranked.masked_fill(self._grid(ranked) > 0, torch.inf)
        taken = ranked.flatten(1).topk(chosen(self.density, positions), sorted=False).indices
        return torch.zeros_like(ranked).flatten(1).scatter(1, taken, 1.0).view_as(ranked)

    def _soft(self, logits: Tensor, tau: float) -> Tensor:
        """Gumbel-softmax of two classes is a sigmoid with logistic noise."""
        if self.draw == "gated":
            return logits.relu()
        if self.draw == "deterministic":
            return self._with_grid(torch.sigmoid(logits / tau))
        uniform = torch.rand_like(logits).clamp_(1e-6, 1 - 1e-6)
        return self._with_grid(torch.sigmoid((logits + torch.logit(uniform)) / tau))

    def _with_grid(self, mask: Tensor) -> Tensor:
        return torch.maximum(mask, self._grid(mask)) if self.grid and self.draw != "gated" else mask

    def _grid(self, mask: Tensor) -> Tensor:
        rows, columns = (torch.arange(side, device=mask.device) % self.grid == 0 for side in mask.shape[-2:])
        return (rows[:, None] & columns).to(mask.dtype)


def chosen(density: float, positions: int) -> int:
    """How many of the positions a fixed budget takes."""
    return min(positions, round(density * positions))


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
                raise TypeError(f"{type(self.body).__name__} is no residual block")
        return cast("Tensor", total)

    def _filled(self, index: int, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The features that are computed, and where they are not those of the interpolation."""
        mask = masks[min(index, len(masks) - 1)]
        if self.fills is None:
            return x * mask
        return torch.lerp(self.fills[index](x, mask), x, mask)


def samplings(network: nn.Module) -> Iterator[Sampling]:
    """The masks of a network, in the order of `models.kinds.sampling.densities`."""
    return (module for module in network.modules() if isinstance(module, Sampling))


def set_temperature(network: nn.Module, tau: float | None) -> None:
    """Soft masks at this temperature, or hard ones."""
    for each in samplings(network):
        each.tau = tau


def size_of(x: Tensor) -> Size:
    """Height and width of a map."""
    return x.shape[-2], x.shape[-1]
