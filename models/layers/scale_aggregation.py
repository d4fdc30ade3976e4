"""Scale aggregation: convolutions at several scales of one map (Li et al., ScaleNet, CVPR 2019, arXiv 1904.09460)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.blocks import activation, conv, conv_unit
from paretofit.models.kinds import aggregation
from paretofit.models.trace import Size, divides


class FloorPool(nn.Module):
    """[N, C, H, W] -> [N, C, H // side, W // side]: the maximum of each window. A smaller map has windows as large as
    its shorter side."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        side = min(self.side, x.shape[-2], x.shape[-1])
        return F.max_pool2d(x, side) if side > 1 else x


class Upsample(nn.Module):
    """[N, C, h, w] -> [N, C, H, W]: nearest neighbor if H and W are multiples of h and w, else bilinear."""

    def forward(self, x: Tensor, size: Size) -> Tensor:
        small = (x.shape[-2], x.shape[-1])
        if small == size:
            return x
        if divides(small, size):
            return F.interpolate(x, size, mode="nearest")
        return F.interpolate(x, size, mode="bilinear", align_corners=False)


class Branch(nn.Module):
    """[N, C, H, W] -> [N, C', H, W]: a convolution of the map pooled by `scale`, upsampled."""

    def __init__(self, in_channels: int, out_channels: int, scale: int, kernel: int) -> None:
        super().__init__()
        self.scale = scale
        if scale > 1:
            self.pool, self.upsample = FloorPool(scale), Upsample()
        self.conv = conv(in_channels, out_channels, kernel=kernel)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        out: Tensor = self.conv(x) if self.scale == 1 else self.upsample(self.conv(self.pool(x)), size)
        normalised: Tensor = self.norm(out)
        return normalised


class ScaleAggregation(nn.Module):
    """[N, C, H, W] -> [N, C', H, W]: the concatenated outputs of the branches."""

    def __init__(self, block: aggregation.ScaleAggregation) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            Branch(block.in_channels, width, scale, kernel)
            for scale, width, kernel in zip(block.scales, block.widths, block.kernels, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        made = [branch(x) for branch in self.branches]
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)


class ScaleBottleneck(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: 1x1 convolution, scale aggregation and 1x1 convolution on a shortcut."""

    def __init__(self, block: aggregation.ScaleBottleneck) -> None:
        super().__init__()
        self.pool = FloorPool(block.stride) if block.stride > 1 else nn.Identity()
        self.reduce = conv_unit(block.in_channels, block.mid_channels, "relu")
        self.aggregate = ScaleAggregation(block.aggregation)
        self.aggregate_act = activation("relu")
        self.expand = conv_unit(block.aggregation.out_channels, block.out_channels, "none")
        self.shortcut = conv_unit(block.in_channels, block.out_channels, "none") if block.projection else None
        self.act = activation("relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        out = self.expand(self.aggregate_act(self.aggregate(self.reduce(x))))
        total: Tensor = self.act(out + (x if self.shortcut is None else self.shortcut(x)))
        return total


class ScaleBasic(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: two scale aggregations on a shortcut."""

    def __init__(self, block: aggregation.ScaleBasic) -> None:
        super().__init__()
        self.pool = FloorPool(block.stride) if block.stride > 1 else nn.Identity()
        self.first = ScaleAggregation(block.first)
        self.first_act = activation("relu")
        self.second = ScaleAggregation(block.second)
        self.shortcut = conv_unit(block.in_channels, block.out_channels, "none") if block.projection else None
        self.act = activation("relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        out = self.second(self.first_act(self.first(x)))
        total: Tensor = self.act(out + (x if self.shortcut is None else self.shortcut(x)))
        return total
