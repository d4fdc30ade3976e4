"""Scale aggregation in evaluation, in fewer and cheaper steps with the same result up to rounding.

Source: Li et al., ScaleNet (arXiv 1904.09460), in the form of `paretofit.models.layers.scale_aggregation`. Batch norm
is folded into each convolution, so it runs before upsampling. A pool by 4 is computed from that by 2. ReLU also runs
before nearest-neighbor upsampling. Because `conv1x1(concat(up(y)...)) = sum of up(slice of conv1x1 (y))`, a slice can
run on its branch's small map. Maps are channels last.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_weights

from paretofit.models.blocks import ConvUnit
from paretofit.models.build import Network
from paretofit.models.layers.scale_aggregation import (
    Branch,
    FloorPool,
    ScaleAggregation,
    ScaleBasic,
    ScaleBottleneck,
    Upsample,
)
from paretofit.models.trace import Size, divides

REPEATS: Final = 7


class Folded(nn.Module):
    """A convolution (stride 1) with folded batch norm: [N, C, H, W] -> [N, C', H, W]."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone(memory_format=torch.channels_last))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


class FastAggregation(nn.Module):
    """The branches of a `ScaleAggregation`, each at its own size."""

    def __init__(self, module: ScaleAggregation) -> None:
        super().__init__()
        branches = [branch for branch in module.branches if isinstance(branch, Branch)]
        self.scales = [branch.scale for branch in branches]
        self.widths = [branch.conv.out_channels for branch in branches]
        self.convs = nn.ModuleList(_folded(branch) for branch in branches)

    def small(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] -> [N, C', h, w] for each branch."""
        pooled: dict[int, Tensor] = {}
        for scale in self.scales:
            of_half = scale == 4 and 2 in pooled and min(x.shape[-2:]) >= scale
            pooled[scale] = FloorPool(2)(pooled[2]) if of_half else FloorPool(scale)(x)
        return [conv(pooled[scale]) for scale, conv in zip(self.scales, self.convs, strict=True)]

    def upsampled(self, y: Tensor, size: Size) -> Tensor:
        """After ReLU, at (height, width)."""
        if divides(_size(y), size):
            return _upsampled(F.relu_(y), size)
        return F.relu_(_upsampled(y, size))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W], without ReLU."""
        return torch.cat([_upsampled(y, _size(x)) for y in self.small(x)], dim=1)

    def activated(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W], after ReLU."""
        return torch.cat([self.upsampled(y, _size(x)) for y in self.small(x)], dim=1)


class JoinedBottleneck(nn.Module):
    """A `ScaleBottleneck` whose branches are concatenated."""

    def __init__(self, module: ScaleBottleneck) -> None:
        super().__init__()
        self.pool = module.pool
        self.reduce = _folded(module.reduce)
        self.aggregate = FastAggregation(module.aggregate)
        self.expand = _folded(module.expand)
        self.shortcut = None if module.shortcut is None else _folded(module.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x.contiguous(memory_format=torch.channels_last))
        return _closed(self.expanded(F.relu_(self.reduce(x))), x, self.shortcut)

    def expanded(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W]: scale aggregation, ReLU and the last convolution."""
        out: Tensor = self.expand(self.aggregate.activated(x))
        return out


class SlicedBottleneck(JoinedBottleneck):
    """A `ScaleBottleneck` whose last convolution is split into a slice for each branch, which runs at the branch's size
    if that is upsampled to the nearest pixel."""

    def __init__(self, module: ScaleBottleneck) -> None:
        super().__init__(module)
        pieces = torch.split(self.expand.weight, self.aggregate.widths, dim=1)
        self.slices = nn.ModuleList(Folded(piece, None if i else self.expand.bias) for i, piece in enumerate(pieces))
        del self.expand

    def expanded(self, x: Tensor) -> Tensor:
        size = _size(x)
        parts = []
        for y, piece in zip(self.aggregate.small(x), self.slices, strict=True):
            small = F.relu_(y) if divides(_size(y), size) else F.relu_(_upsampled(y, size))
            parts.append(piece(small))
        return _summed(parts, size)


class FastBasic(nn.Module):
    """A `ScaleBasic`."""

    def __init__(self, module: ScaleBasic) -> None:
        super().__init__()
        self.pool = module.pool
        self.first = FastAggregation(module.first)
        self.second = FastAggregation(module.second)
        self.shortcut = None if module.shortcut is None else _folded(module.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x.contiguous(memory_format=torch.channels_last))
        return _closed(self.second(self.first.activated(x)), x, self.shortcut)


def forms(module: nn.Module) -> list[nn.Module]:
    """The faster forms of a block in evaluation mode; none for a block without scale aggregation."""
    match module:
        case ScaleBottleneck():
            return [JoinedBottleneck(module), SlicedBottleneck(module)]
        case ScaleBasic():
            return [FastBasic(module)]
        case _:
            return []


Measure = Callable[[Sequence[nn.Module], Tensor], Sequence[float]]
"""Seconds of each of several modules on a map [N, C, H, W]."""


@torch.inference_mode()
def interleaved(modules: Sequence[nn.Module], x: Tensor) -> list[float]:
    """Minimum seconds in torch, measured alternately, on the map's device."""
    seconds: list[list[float]] = [[] for _ in modules]
    for turn in range(REPEATS + 1):
        for module, taken in zip(modules, seconds, strict=True):
            _synchronise(x)
            began = time.perf_counter()
            module(x)
            _synchronise(x)
            if turn:
                taken.append(time.perf_counter() - began)
    return [min(each) for each in seconds]


@torch.inference_mode()
def fast(network: Network, images: Tensor, measure: Measure = interleaved) -> Network:
    """A copy for evaluation in which each block has its fastest measured form for `images` [N, C, H, W]; it runs at any
    size. Raises ValueError for a network in training mode."""
    if network.training:
        raise ValueError("the network is in training mode: call eval() first")
    found = copy.deepcopy(network)
    convert_conv2d_weight_memory_format(found, torch.channels_last)
    x = images.contiguous(memory_format=torch.channels_last)
    for i, block in enumerate(found.blocks):
        if others := forms(block):
            candidates = [block, *others]
            seconds = measure(candidates, x)
            found.blocks[i] = candidates[min(range(len(candidates)), key=seconds.__getitem__)]
        x = found.blocks[i](x)
    return found.eval()


def _folded(unit: Branch | ConvUnit) -> Folded:
    norm = unit.norm
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch norm without statistics cannot be folded: calibrate or extract the network")
    weight, bias = fuse_conv_bn_weights(
        unit.conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return Folded(weight, bias)


def _closed(out: Tensor, x: Tensor, shortcut: Folded | None) -> Tensor:
    return F.relu_(out.add_(x if shortcut is None else shortcut(x)))


def _summed(parts: list[Tensor], size: Size) -> Tensor:
    """The sum at (height, width): each small map is added to the next larger one whose sides are multiples."""
    left = sorted(parts, key=lambda part: part.shape[-2] * part.shape[-1])
    while len(left) > 1:
        part, *left = left
        larger = next((other for other in left if divides(_size(part), _size(other))), None)
        if larger is None:
            left.append(_upsampled(part, size))
        else:
            larger += _upsampled(part, _size(larger))
    return _upsampled(left[0], size)


_upsample = Upsample()


def _upsampled(x: Tensor, size: Size) -> Tensor:
    out: Tensor = _upsample(x, size)
    return out


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def _synchronise(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
