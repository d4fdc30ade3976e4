"""Sampled blocks in evaluation that compute only the positions of their masks, for CPUs.

The rows of active positions are gathered, multiplied and scattered. Convolutions and blocks that are slower this way,
by a measured table, are computed everywhere. The result equals `paretofit.models.layers.spatial_sampling` on the same
masks, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.layers.folded_residual import Table, extent
from paretofit.models.layers.interpolation import Interpolation
from paretofit.models.layers.masked_residual import MaskedBlock
from paretofit.models.layers.rows import Convolution, Padded, as_map, parts, rows
from paretofit.models.layers.sparse_interpolation import Active, SparseInterpolation
from paretofit.models.layers.spatial_sampling import Sampled, size_of
from paretofit.models.trace import Size


class SparseBlock(MaskedBlock):
    """Sparse form of a `Sampled` block."""

    def __init__(self, module: Sampled, table: Table, *, nonnegative: bool) -> None:
        """`nonnegative`: whether no input has negative values. Raises ValueError for convolutions with groups."""
        super().__init__(module, table)
        self.nonnegative = nonnegative
        self.gated = self.masks.samplings[0].draw == "gated"
        self.fills: nn.ModuleList | None = None
        if module.fills is not None:
            device = self.masks.matrix.device
            self.fills = nn.ModuleList(
                SparseInterpolation(cast("Interpolation", each), device) for each in module.fills
            )

    @property
    def zero(self) -> bool:
        return self.fills is None

    @property
    def grain(self) -> int:
        return 1

    def ways(self, index: int, x: Tensor, mask: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
        active = Active.of(mask, gated=False)
        if index == 0:
            return partial(self._gathered, self.first, x, active), partial(self._picked, self.first, x, active)
        padded = Padded(extent(x), x, x.shape[1])
        padded.fill(x)
        return partial(self._gathered, self.second, padded, active), partial(self._picked, self.second, padded, active)

    def on(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The block with these masks [N, 1, H', W']."""
        last = Active.of(masks[-1], gated=self.gated)
        read = _read(last.mask, size_of(masks[0]), self.second.stride)
        # Without interpolation, positions that the second convolution does not read can be left out.
        first = Active.of(masks[0] if self.fills is not None else masks[0] * read, gated=self.gated)
        active, total = self.entered(x)
        values = first.scaled(F.relu_(self._at(self.first, active, first)))
        inner = Padded(first.like, x, values.shape[1])
        inner.put(first.positions, values)
        if self.fills is not None:
            self.fills[0](inner.map, values, first, border=1)
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
        for part in parts(positions):
            at = positions[part]
            gathered = x.neighbors(at) if isinstance(x, Padded) else rows(x).index_select(0, at)
            conv.of(gathered, found[part])
        return found

    def _expanded(self, conv: Convolution, total: Tensor, inner: Tensor, last: Active, *, act: bool) -> None:
        """Add the last convolution of rows [n, C] to the rows of `total`, and activate them if nothing else is
        added."""
        for part in parts(inner):
            positions = last.positions[part]
            found = conv.onto(total.index_select(0, positions), inner[part])
            total.index_copy_(0, positions, found.relu_() if act else found)

    def _added(self, total: Tensor, values: Tensor, last: Active, *, act: bool) -> None:
        """Add rows [n, C'] to the rows of `total`, and interpolated values to the others."""
        if self.fills is None:
            found = total.index_select(0, last.positions).add_(values)
            total.index_copy_(0, last.positions, found.relu_() if act else found)
            return
        found = torch.zeros_like(total).index_copy_(0, last.positions, values)
        self.fills[1](as_map(found, last.like), values, last)
        total.add_(found)


def _like(x: Tensor | Padded) -> tuple[int, int, int]:
    return (x.count, x.height, x.width) if isinstance(x, Padded) else extent(x)


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
