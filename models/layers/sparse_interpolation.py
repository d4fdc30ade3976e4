"""Interpolation where a mask is 0, of maps that are 0 there: equals `paretofit.models.layers.interpolation` up to
rounding."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.layers.interpolation import Interpolation
from paretofit.models.layers.rows import rows
from paretofit.models.layers.spatial_sampling import size_of

NEGLIGIBLE: Final = 1e-6
"""Weight, relative to the largest in its window, below which positions are left out."""
_NONE: Final = -1e30
"""An exponent below all others."""
_TOP: Final = 30.0
"""The largest exponent of a line's weights, so that products of two of them, of a feature and of a window's sum are
normal floating-point numbers."""
_LEAST: Final = -55.0
"""The smallest nonzero one."""
_ENOUGH: Final = math.exp(_LEAST + _TOP + 20)
"""A sum of weights for which those rounded to 0 are negligible."""


class Active(NamedTuple):
    """Where a mask [N, 1, H, W] is not 0: positions [n] in [0, N * H * W), and with draw `gated` the factors [n, 1]."""

    mask: Tensor
    positions: Tensor
    factors: Tensor | None

    @classmethod
    def of(cls, mask: Tensor, *, gated: bool) -> Active:
        flat = mask.flatten()
        positions = flat.nonzero()[:, 0]
        return cls(mask, positions, flat.index_select(0, positions)[:, None] if gated else None)

    @property
    def like(self) -> tuple[int, int, int]:
        return len(self.mask), *size_of(self.mask)

    @property
    def density(self) -> float:
        return len(self.positions) / max(1, self.mask.numel())

    def scaled(self, values: Tensor) -> Tensor:
        """Multiply rows [n, C] by the factors, in place."""
        return values if self.factors is None else values.mul_(self.factors)


class SparseInterpolation(nn.Module):
    """Fast form of an `Interpolation`.

    Radial basis functions and means are products of a column's and a line's weights: two depthwise convolutions are
    faster than gathering neighbors. Where all nearby weights are almost 0, and for learned kernels, the windows are
    gathered.
    """

    exponents: Tensor
    line: Tensor | None

    def __init__(self, module: Interpolation, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("exponents", module.exponents(device).detach())
        self.register_buffer("line", None)
        if module.kernel is None:
            middle = self.exponents.shape[0] // 2
            column = self.exponents[:, middle].clone()
            column[middle] = 0
            shifted = column + (_TOP if module.sigma is not None else 0)
            self.line = torch.exp(shifted) * (shifted >= _LEAST)

    def forward(self, x: Tensor, values: Tensor, active: Active, border: int = 0) -> None:
        """Fill the missing positions of a map [N, C, H + 2 border, W + 2 border], channels last. It has rows `values`
        [n, C] at the active positions, and 0 elsewhere. The border stays."""
        missing = F.pad((active.mask == 0).to(x.dtype), (border,) * 4)
        if self.line is None:
            self._gather(x, values, active, missing, border)
            return
        weight = _blurred(F.pad((active.mask > 0).to(x.dtype), (border,) * 4), self.line)
        sums = _blurred(x, self.line)
        enough = weight > _ENOUGH
        x.addcmul_(sums, missing * enough / weight.clamp_min(_ENOUGH))
        few = missing * ~enough
        if few.any():
            self._gather(x, values, active, few, border)

    def _gather(self, x: Tensor, values: Tensor, active: Active, missing: Tensor, border: int) -> None:
        at = missing.flatten().nonzero()[:, 0]
        height, width = size_of(missing)
        image, line, column = at // (height * width), at // width % height, at % width
        _, inner, across = active.like
        positions = (image * inner + line - border) * across + column - border
        rows(x).index_copy_(0, at, _interpolated(values, active, positions, self.exponents))


def _blurred(x: Tensor, line: Tensor) -> Tensor:
    """[N, C, H, W] -> the sums of windows by the products of weights [w]."""
    channels, reach = x.shape[1], len(line) // 2
    across = F.conv2d(x, line.expand(channels, 1, 1, -1), padding=(0, reach), groups=channels)
    return F.conv2d(across, line[:, None].expand(channels, 1, -1, 1), padding=(reach, 0), groups=channels)


def _interpolated(values: Tensor, active: Active, positions: Tensor, exponents: Tensor) -> Tensor:
    """Rows [n, C] at the active positions -> [u, C] at others: the mean over the window by the exponents [w, w] of its
    weights; 0 for an empty window."""
    reach = exponents.shape[0] // 2
    numbers = torch.full_like(active.mask, -1, dtype=torch.int32)
    numbers.view(-1)[active.positions] = torch.arange(len(active.positions), dtype=torch.int32, device=numbers.device)
    numbers = F.pad(numbers, (reach,) * 4, value=-1)
    # If one of the eight nearest is active, most of the window has negligible weights.
    nearest = exponents[reach - 1 : reach + 2, reach - 1 : reach + 2].clone()
    nearest[1, 1] = torch.inf
    few = exponents.masked_fill(exponents <= nearest.min() + math.log(NEGLIGIBLE), -torch.inf)
    around = F.max_pool2d((active.mask > 0).float(), 3, 1, 1).flatten().index_select(0, positions) > 0
    found = values.new_empty(len(positions), values.shape[1])
    for where, kernel in ((around, few), (~around, exponents)):
        at = where.nonzero()[:, 0]
        found.index_copy_(0, at, _means(values, numbers, positions.index_select(0, at), kernel))
    return found


def _means(values: Tensor, numbers: Tensor, positions: Tensor, exponents: Tensor) -> Tensor:
    """As `_interpolated`. `numbers`: index of the row at each position [N, 1, H + w - 1, W + w - 1], with a border; -1:
    none."""
    border = exponents.shape[0] - 1
    high, line = size_of(numbers)
    height, width = high - border, line - border
    starts = (positions // (height * width) * high + positions // width % height) * line + positions % width
    down, across = (exponents > -torch.inf).nonzero(as_tuple=True)
    inside = (starts[:, None] + (down * line + across)).flatten()
    neighbors = numbers.flatten().index_select(0, inside).view(len(positions), len(down))
    shares = exponents[down, across].expand_as(neighbors).masked_fill(neighbors < 0, -torch.inf)
    shares = shares.sub_(shares.amax(1, keepdim=True).clamp_min(_NONE)).exp_()
    shares *= shares > NEGLIGIBLE
    shares /= shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)
    kept = shares > 0
    ends = kept.sum(1).cumsum(0, dtype=torch.int32)
    indices, factors = neighbors.masked_select(kept), shares.masked_select(kept)
    return F.embedding_bag(indices, values, F.pad(ends, (1, 0))[:-1], mode="sum", per_sample_weights=factors)
