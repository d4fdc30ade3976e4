"""Convolutions at some positions of a map, as products of matrices whose rows are positions.

Maps are channels last, so the rows [N * H * W, C] are a view, and three neighbors in a line are contiguous.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

Role = Literal["first", "second", "third", "shortcut", "joint"]
"""Use of a block's convolution, which determines its fastest form. `joint` is the first one together with the masks'
predictors."""
PART: Final = 1024
"""Rows that each thread computes at once."""


def rows(x: Tensor) -> Tensor:
    """[N, C, H, W], channels last -> a view [N * H * W, C]."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def as_map(found: Tensor, like: tuple[int, int, int]) -> Tensor:
    """[N * H * W, C] -> a view [N, C, H, W], channels last. `like`: N, H and W."""
    count, height, width = like
    return found.view(count, height, width, found.shape[1]).permute(0, 3, 1, 2)


def parts(found: Tensor) -> list[slice]:
    """Chunks of rows, on CPUs about `PART` at a time for each thread, so that data shared by several steps stays in the
    cache."""
    count = 1 if found.is_cuda else max(1, round(len(found) / (PART * torch.get_num_threads())))
    return [slice(*ends) for ends in pairwise(len(found) * i // count for i in range(count + 1))]


class Padded:
    """A map with a border of zeros: [N, C, H, W] in memory of [N, H + 2, W + 2, C]."""

    def __init__(self, like: tuple[int, int, int], reference: Tensor, channels: int) -> None:
        self.count, self.height, self.width = like
        self._line = self.width + 2
        self.rows = reference.new_zeros(self.count * (self.height + 2) * self._line, channels)

    def put(self, positions: Tensor, values: Tensor) -> None:
        """Set the rows of positions, which are counted without the border."""
        self.rows.index_copy_(0, self._inner(positions), values)

    @property
    def map(self) -> Tensor:
        """A view [N, C, H + 2, W + 2], channels last."""
        return as_map(self.rows, (self.count, self.height + 2, self._line))

    def fill(self, x: Tensor) -> None:
        """Set the whole map [N, C, H, W]."""
        self.map[:, :, 1:-1, 1:-1].copy_(x)

    def neighbors(self, positions: Tensor) -> Tensor:
        """[n] -> [n, 9 C]: the 3 x 3 windows around positions, line by line."""
        channels = self.rows.shape[1]
        lines = self.rows.as_strided((len(self.rows) - 2, 3 * channels), (channels, 1))
        starts = self._inner(positions) - self._line - 1
        offsets = torch.arange(3, device=positions.device) * self._line
        return lines.index_select(0, (starts[:, None] + offsets).flatten()).view(len(positions), 9 * channels)

    def _inner(self, positions: Tensor) -> Tensor:
        line = torch.div(positions, self.width, rounding_mode="floor")
        image = torch.div(positions, self.width * self.height, rounding_mode="floor")
        return positions + (2 * line + 2 * self._line * image + self._line + 1)


class Convolution(nn.Module):
    """A convolution of 1 x 1 or 3 x 3 without groups, with folded batch norm."""

    weight: Tensor
    matrix: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None, role: Role) -> None:
        """Raises ValueError for a convolution with groups, and for batch norm without statistics."""
        super().__init__()
        self.role = role
        if conv.groups != 1:
            raise ValueError("a convolution with groups is not a single matrix product")
        weight, bias = folded(conv, norm)
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        # A row for each weight of an output, in the order of `Padded.neighbors`.
        self.register_buffer("matrix", weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0]).contiguous())
        self.register_buffer("bias", bias)

    def everywhere(self, x: Tensor, *, product: bool, padding: int | None = None) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W'], channels last; `product`: 1 x 1 kernels as a matrix product. `padding`:
        unset, keeps the size."""
        if self.kernel > 1 or not product:
            found = F.conv2d(x, self.weight, self.bias, self.stride, self.kernel // 2 if padding is None else padding)
            # With one input channel the memory format is ambiguous, so the output may not be channels last.
            return found.contiguous(memory_format=torch.channels_last)
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride].contiguous(memory_format=torch.channels_last)
        return as_map(self.of(rows(x)), (x.shape[0], x.shape[2], x.shape[3]))

    def of(self, gathered: Tensor, out: Tensor | None = None) -> Tensor:
        """[n, kernel^2 C] -> [n, C'], in `out` if it is given."""
        return torch.addmm(self.bias, gathered, self.matrix, out=out)

    def onto(self, total: Tensor, gathered: Tensor, factors: Tensor | None = None) -> Tensor:
        """Add the same to rows [n, C'], in place; with `factors` [n, 1], of rows that are multiplied by them already,
        the products with these."""
        total.addmm_(gathered, self.matrix)
        return total.add_(self.bias) if factors is None else total.addcmul_(factors, self.bias)


def folded(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weight and bias with folded batch norm, copied. Raises ValueError without statistics."""
    weight = conv.weight.detach()
    if norm is None or isinstance(norm, nn.Identity):
        return weight.clone(), weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().clone()
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch norm without statistics cannot be folded: calibrate or extract the network")
    made, bias = fuse_conv_bn_weights(
        weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return made.detach(), bias.detach()
