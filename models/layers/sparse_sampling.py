"""Sampled blocks in evaluation that compute what their masks say and nothing else: on CPUs.

The rows of active positions are gathered, multiplied and put back. A convolution that takes longer so than everywhere, by a
measured table, is computed everywhere, and so is a block as a whole. The result is that of `models.layers.spatial_sampling` on the same masks, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.layers.folded_residual import Table
from models.layers.interpolation import Interpolation
from models.layers.masked_residual import MaskedBlock
from models.layers.rows import Convolution, Padded, rows
from models.layers.spatial_sampling import Sampled, size_of
from models.trace import Size

PART: Final = 1024
"""Rows that are gathered at once, by each thread."""
NEGLIGIBLE: Final = 1e-6
"""A weight, as a share of the largest in its window, that is left out."""
_NONE: Final = -1e30
"""An exponent below all others."""


class Active(NamedTuple):
    """Where a mask [N, 1, H, W] is not 0: positions [n] in [0, N * H * W), and with the draw `gated` the factors [n, 1]."""

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
        """Rows [n, C] by the factors, in place."""
        return values if self.factors is None else values.mul_(self.factors)


class SparseBlock(MaskedBlock):
    """A `Sampled` block."""

    def __init__(self, module: Sampled, table: Table, *, nonnegative: bool) -> None:
        """`nonnegative`: whether no input has anything below 0. Raises ValueError for convolutions with groups."""
        super().__init__(module, table)
        self.nonnegative = nonnegative
        self.gated = self.masks.samplings[0].draw == "gated"
        fills, device = module.fills, self.masks.matrix.device
        self.fills = (
            None if fills is None else [cast("Interpolation", each).exponents(device).detach() for each in fills]
        )

    @property
    def zero(self) -> bool:
        return self.fills is None

    def ways(self, index: int, x: Tensor, mask: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
        active = Active.of(mask, gated=False)
        if index == 0:
            return partial(self._gathered, self.first, x, active), partial(self._picked, self.first, x, active)
        padded = Padded((len(x), *size_of(x)), x, x.shape[1])
        padded.fill(x)
        return partial(self._gathered, self.second, padded, active), partial(self._picked, self.second, padded, active)

    def on(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The block with these masks [N, 1, H', W']."""
        last = Active.of(masks[-1], gated=self.gated)
        read = _read(last.mask, size_of(masks[0]), self.second.stride)
        # Without interpolation what the second convolution does not read need not be there.
        first = Active.of(masks[0] if self.fills is not None else masks[0] * read, gated=self.gated)
        active, total = self.entered(x)
        values = first.scaled(F.relu_(self._at(self.first, active, first)))
        inner = Padded(first.like, x, values.shape[1])
        inner.put(first.positions, values)
        if self.fills is not None:
            missing = (read * (first.mask == 0)).flatten().nonzero()[:, 0]
            inner.put(missing, _interpolated(values, first, missing, self.fills[0]))
        out = self._at(self.second, inner, last)
        settled = self.entry is not None or (self.nonnegative and self.shortcut is None and self.fills is None)
        act = settled and self.entry is None
        if self.third is not None and self.fills is None and not self.gated:
            self._expanded(self.third, rows(total), F.relu_(out), last, act=act)
        else:
            if self.third is not None:
                out = self.third.of(F.relu_(out))
            self._added(rows(total), last.scaled(out), last, act=act)
        return total if settled else F.relu_(total)

    def _at(self, conv: Convolution, x: Tensor | Padded, active: Active) -> Tensor:
        """A convolution of a map at the active positions: [n, C']."""
        if active.density > self.choice(conv, _like(x)).break_even:
            return self._picked(conv, x, active)
        return self._gathered(conv, x, active)

    def _picked(self, conv: Convolution, x: Tensor | Padded, active: Active) -> Tensor:
        """As `_at`, from a convolution everywhere."""
        made = conv.everywhere(x.map, product=False, padding=0) if isinstance(x, Padded) else self.everywhere(conv, x)
        return rows(made).index_select(0, active.positions)

    def _gathered(self, conv: Convolution, x: Tensor | Padded, active: Active) -> Tensor:
        """As `_at`, from the rows that it reads."""
        like = _like(x)
        positions = _of_input(active, conv.stride, like)
        if conv.kernel > 1 and isinstance(x, Tensor):
            source, x = x, Padded(like, x, x.shape[1])
            x.fill(source)
        found = conv.matrix.new_empty(len(positions), conv.matrix.shape[1])
        for start, end in _parts(len(positions)):
            part = positions[start:end]
            gathered = x.neighbours(part) if isinstance(x, Padded) else rows(x).index_select(0, part)
            conv.of(gathered, found[start:end])
        return found

    def _expanded(self, conv: Convolution, total: Tensor, inner: Tensor, last: Active, *, act: bool) -> None:
        """Add the last convolution of rows [n, C] to those of `total`, and activate them if nothing else needs it."""
        for start, end in _parts(len(inner)):
            positions = last.positions[start:end]
            found = conv.onto(total.index_select(0, positions), inner[start:end])
            total.index_copy_(0, positions, found.relu_() if act else found)

    def _added(self, total: Tensor, values: Tensor, last: Active, *, act: bool) -> None:
        """Add rows [n, C'] to those of `total`, and to the others what is interpolated."""
        found = total.index_select(0, last.positions).add_(values)
        total.index_copy_(0, last.positions, found.relu_() if act else found)
        if self.fills is not None:
            missing = (last.mask == 0).flatten().nonzero()[:, 0]
            made = _interpolated(values, last, missing, self.fills[1])
            total.index_copy_(0, missing, made.add_(total.index_select(0, missing)))


def _interpolated(values: Tensor, active: Active, positions: Tensor, exponents: Tensor) -> Tensor:
    """Rows [n, C] at the active positions -> [u, C] at others: the mean of what is in the window, by the exponents [w, w] of its
    weights; 0 where there is nothing."""
    reach = exponents.shape[0] // 2
    numbers = torch.full_like(active.mask, -1, dtype=torch.int32)
    numbers.view(-1)[active.positions] = torch.arange(len(active.positions), dtype=torch.int32, device=numbers.device)
    numbers = F.pad(numbers, (reach,) * 4, value=-1)
    # Where one of the eight nearest is active, most of the window weighs nothing.
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
    """As `_interpolated`. `numbers`: of the row at each position [N, 1, H + w - 1, W + w - 1], with a border; -1: none."""
    border = exponents.shape[0] - 1
    high, line = size_of(numbers)
    height, width = high - border, line - border
    starts = (positions // (height * width) * high + positions // width % height) * line + positions % width
    down, across = (exponents > -torch.inf).nonzero(as_tuple=True)
    inside = (starts[:, None] + (down * line + across)).flatten()
    neighbours = numbers.flatten().index_select(0, inside).view(len(positions), len(down))
    shares = exponents[down, across].expand_as(neighbours).masked_fill(neighbours < 0, -torch.inf)
    shares = shares.sub_(shares.amax(1, keepdim=True).clamp_min(_NONE)).exp_()
    shares *= shares > NEGLIGIBLE
    shares /= shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)
    kept = shares > 0
    ends = kept.sum(1).cumsum(0, dtype=torch.int32)
    indices, factors = neighbours.masked_select(kept), shares.masked_select(kept)
    return F.embedding_bag(indices, values, F.pad(ends, (1, 0))[:-1], mode="sum", per_sample_weights=factors)


def _like(x: Tensor | Padded) -> tuple[int, int, int]:
    return (x.count, x.height, x.width) if isinstance(x, Padded) else (len(x), *size_of(x))


def _parts(number: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows, of about `PART` for each thread: what is gathered stays in the cache."""
    parts = max(1, round(number / (PART * torch.get_num_threads())))
    ends = [number * i // parts for i in range(parts + 1)]
    return pairwise(ends)


def _of_input(active: Active, stride: int, like: tuple[int, int, int]) -> Tensor:
    """Active positions as positions of a convolution's input."""
    if stride == 1:
        return active.positions
    _, height, width = active.like
    image, row = active.positions // (height * width), active.positions // width % height
    return (image * like[1] + row * stride) * like[2] + active.positions % width * stride


def _read(mask: Tensor, size: Size, stride: int) -> Tensor:
    """Where a 3 x 3 convolution reads its input of (height, width) to compute a mask [N, 1, H', W']: 1, else 0."""
    spread = (mask > 0).to(mask.dtype)
    if stride > 1:
        small, spread = spread, mask.new_zeros(len(mask), 1, *size)
        spread[:, :, ::stride, ::stride] = small
    return F.max_pool2d(spread, 3, 1, 1)
