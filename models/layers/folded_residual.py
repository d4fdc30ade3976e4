"""Residual blocks in evaluation in their fastest dense form: batch norm folded into the convolutions, channels-last
maps, 1 x 1 convolutions as matrix products where these are faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.blocks import ConvUnit, PreactivationBasic, ResidualBasic, ResidualBottleneck
from paretofit.models.layers.rows import Convolution, Role, folded, parts, rows

RESIDUAL = (ResidualBottleneck, ResidualBasic, PreactivationBasic)


@dataclass(frozen=True, slots=True)
class Choice:
    """Fastest way to compute a convolution: at the positions of a mask up to a density of `break_even`, else
    everywhere; then as a matrix `product` or as a convolution."""

    break_even: float = 0.9
    product: bool = True


Key = tuple[Role, int, int, int, int, int, int, int]
"""Key of a convolution: role, input and output channels, kernel, stride; images, height and width of its input."""
BlockKey = tuple[Key, ...]
"""Key of a block: its convolutions, each with the block's input."""
Table = Mapping[Key | BlockKey, Choice]
USUAL = Choice()


class FoldedUnit(nn.Module):
    """A `ConvUnit`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, unit: ConvUnit) -> None:
        super().__init__()
        weight, bias = folded(unit.conv, unit.norm)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.act = unit.act
        self.settings = unit.conv.stride, unit.conv.padding, unit.conv.dilation, unit.conv.groups

    def forward(self, x: Tensor) -> Tensor:
        stride, padding, dilation, groups = self.settings
        found: Tensor = self.act(torch.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups))
        return found


class FoldedResidual(nn.Module):
    """[N, C, H, W] -> [N, C', H', W'], both channels last. It may modify its input if `changes_input`; in networks no
    other block reads it."""

    changes_input = True

    def __init__(self, body: nn.Module, table: Table) -> None:
        """Raises ValueError for a body with groups, TypeError for one that is not a residual block."""
        super().__init__()
        self.table = table
        self.entry: nn.BatchNorm2d | None = None
        self.third: Convolution | None = None
        match body:
            case ResidualBottleneck():
                self.first, self.second = _of_unit(body.reduce, "first"), _of_unit(body.spatial, "second")
                self.third = _of_unit(body.expand, "third")
            case ResidualBasic():
                self.first, self.second = _of_unit(body.first, "first"), _of_unit(body.second, "second")
            case PreactivationBasic():
                self.entry = body.norm1
                self.first = Convolution(body.conv1, body.norm2, "first")
                self.second = Convolution(body.conv2, None, "second")
            case _:
                raise TypeError(f"{type(body).__name__} is not a residual block")
        shortcut = body.shortcut
        if isinstance(shortcut, ConvUnit):
            self.shortcut: Convolution | None = _of_unit(shortcut, "shortcut")
        else:
            self.shortcut = None if shortcut is None else Convolution(shortcut, None, "shortcut")

    def forward(self, x: Tensor) -> Tensor:
        active, total = self.entered(x)
        return self._summed(total, self.everywhere(self.second, F.relu_(self.everywhere(self.first, active))))

    def masked(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """The block computed everywhere, with zeros where masks [N, 1, H', W'] are 0."""
        active, total = self.entered(x)
        inner = F.relu_(self.everywhere(self.first, active)).mul_(masks[0])
        return self._summed(total, self.everywhere(self.second, inner), masks[-1])

    def _summed(self, total: Tensor, out: Tensor, mask: Tensor | None = None) -> Tensor:
        """The block's output from the shortcut's and the second convolution's, both [N, C', H', W'] and modified, with
        a mask [N, 1, H', W'] on the second."""
        if self.third is None:
            return self.left(total.add_(out) if mask is None else total.addcmul_(out, mask))
        return self.expanded(total, F.relu_(out), mask, product=self.choice(self.third, extent(out)).product)

    def expanded(self, total: Tensor, inner: Tensor, mask: Tensor | None, *, product: bool) -> Tensor:
        """`total` [N, C', H', W'] plus the last of three convolutions of `inner` [N, C, H', W'], times `mask`
        [N, 1, H', W'] if given, activated. Modifies `total` and, if computed as a matrix `product`, `inner`."""
        assert self.third is not None
        if not product:
            made = self.third.everywhere(inner, product=False)
            return F.relu_(total.add_(made) if mask is None else total.addcmul_(made, mask))
        sums, found = rows(total), rows(inner if mask is None else inner.mul_(mask))
        factors = None if mask is None else mask.reshape(-1, 1)
        for part in parts(sums):
            self.third.onto(sums[part], found[part], None if factors is None else factors[part]).relu_()
        return total

    def entered(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the first convolution, and the shortcut's output, which may be modified. Both are channels
        last."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.shortcut is None and not self.changes_input:
            x = x.clone(memory_format=torch.channels_last)
        active = x
        if self.entry is not None:
            norm = self.entry
            active = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps).relu_()
        return active, x if self.shortcut is None else self.everywhere(self.shortcut, active)

    def left(self, total: Tensor) -> Tensor:
        """The block's output from the sum of shortcut and body."""
        return F.relu_(total) if self.entry is None else total

    def everywhere(self, conv: Convolution, x: Tensor) -> Tensor:
        return conv.everywhere(x, product=self.choice(conv, extent(x)).product)

    def choice(self, conv: Convolution, like: tuple[int, int, int]) -> Choice:
        """For an input of this number of images, rows and columns."""
        return self.table.get(key(conv, like), USUAL)

    def key(self, like: tuple[int, int, int]) -> BlockKey:
        """For an input of this number of images, rows and columns."""
        return tuple(key(conv, like) for conv in self.convolutions())

    def convolutions(self) -> tuple[Convolution, ...]:
        """In execution order, the shortcut's last."""
        found = (self.first, self.second, self.third, self.shortcut)
        return tuple(each for each in found if each is not None)


def key(conv: Convolution, like: tuple[int, int, int]) -> Key:
    """Key of a convolution whose input has this number of images, rows and columns."""
    channels, inputs = conv.weight.shape[:2]
    return conv.role, inputs, channels, conv.kernel, conv.stride, *like


def extent(x: Tensor) -> tuple[int, int, int]:
    """Images, rows and columns of a map."""
    return len(x), x.shape[2], x.shape[3]


def _of_unit(unit: ConvUnit, role: Role) -> Convolution:
    return Convolution(unit.conv, unit.norm, role)
