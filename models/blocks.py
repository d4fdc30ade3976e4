"""Torch modules of the kinds of block in `paretofit.models.kinds`: one class each, with submodules named like the
block's layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paretofit.models.kinds import basic, inverted, pooling, preactivation, residual, separable, shuffle
from paretofit.models.kinds.basic import Activation
from paretofit.models.layers.batch_norm import norm_act
from paretofit.models.layers.convolution import convolve


def conv(in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, Kaiming normal by the fan-out of each group (He et al., arXiv 1502.01852)."""
    module = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    fan_out = kernel**2 * out_channels // groups
    _draw(module.weight, (2.0 / fan_out) ** 0.5)
    return module


def _draw(weight: Tensor, std: float) -> None:
    # Nothing to initialize on the meta device, where torch is slow, the first time for seconds.
    if not weight.is_meta:
        nn.init.normal_(weight, 0.0, std)


def activation(name: Activation) -> nn.Module:
    """The activation with this name."""
    match name:
        case "relu":
            return nn.ReLU(inplace=True)
        case "relu6":
            return nn.ReLU6(inplace=True)
        case "none":
            return nn.Identity()


class ConvUnit(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: convolution, optional batch norm, activation."""

    def __init__(self, block: basic.Conv) -> None:
        super().__init__()
        self.conv = conv(
            block.in_channels, block.out_channels, kernel=block.kernel, stride=block.stride, groups=block.groups
        )
        self.norm = nn.BatchNorm2d(block.out_channels) if block.norm else nn.Identity()
        self.act = activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        return norm_act(convolve(x, self.conv), self.norm, self.act)


def conv_unit(
    in_channels: int, out_channels: int, act: Activation, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> ConvUnit:
    """A convolution with batch norm."""
    return ConvUnit(basic.Conv(in_channels, out_channels, kernel, stride, groups, norm=True, activation=act))


class Separable(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: depthwise, then pointwise convolution."""

    def __init__(self, block: separable.Separable) -> None:
        super().__init__()
        channels, act = block.in_channels, block.activation
        self.depthwise = conv_unit(channels, channels, act, kernel=block.kernel, stride=block.stride, groups=channels)
        self.pointwise = conv_unit(channels, block.out_channels, act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class PreactivationBasic(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: two 3x3 convolutions on a shortcut."""

    def __init__(self, block: preactivation.PreactivationBasic) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(block.in_channels)
        self.act1 = activation("relu")
        self.shortcut = conv(block.in_channels, block.out_channels, stride=block.stride) if block.projection else None
        self.conv1 = conv(block.in_channels, block.mid_channels, kernel=3, stride=block.stride)
        self.norm2 = nn.BatchNorm2d(block.mid_channels)
        self.act2 = activation("relu")
        self.conv2 = conv(block.mid_channels, block.out_channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        out = norm_act(x, self.norm1, self.act1)
        shortcut = x if self.shortcut is None else convolve(out, self.shortcut)
        out = self.conv2(norm_act(self.conv1(out), self.norm2, self.act2))
        total: Tensor = out + shortcut
        return total


class InvertedResidual(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: 1x1, depthwise and 1x1 convolution, added to the input if residual."""

    def __init__(self, block: inverted.InvertedResidual) -> None:
        super().__init__()
        channels, mid, act = block.in_channels, block.mid_channels, block.activation
        self.residual = block.residual
        self.expand = conv_unit(channels, mid, act) if mid != channels else None
        self.depthwise = conv_unit(mid, mid, act, kernel=block.kernel, stride=block.stride, groups=mid)
        self.project = conv_unit(mid, block.out_channels, "none")

    def forward(self, x: Tensor) -> Tensor:
        out = x if self.expand is None else self.expand(x)
        out = self.project(self.depthwise(out))
        total: Tensor = out + x if self.residual else out
        return total


class ResidualBasic(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: two 3x3 convolutions on a shortcut."""

    def __init__(self, block: residual.ResidualBasic) -> None:
        super().__init__()
        self.first = conv_unit(block.in_channels, block.mid_channels, "relu", kernel=3, stride=block.stride)
        self.second = conv_unit(block.mid_channels, block.out_channels, "none", kernel=3)
        self.shortcut = projection(block)
        self.act = activation("relu")

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.first(x))
        total: Tensor = self.act(out + (x if self.shortcut is None else self.shortcut(x)))
        return total


class ResidualBottleneck(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: 1x1, 3x3 and 1x1 convolution on a shortcut."""

    def __init__(self, block: residual.ResidualBottleneck) -> None:
        super().__init__()
        mid = block.mid_channels
        self.reduce = conv_unit(block.in_channels, mid, "relu")
        self.spatial = conv_unit(mid, mid, "relu", kernel=3, stride=block.stride, groups=block.groups)
        self.expand = conv_unit(mid, block.out_channels, "none")
        self.shortcut = projection(block)
        self.act = activation("relu")

    def forward(self, x: Tensor) -> Tensor:
        out = self.expand(self.spatial(self.reduce(x)))
        total: Tensor = self.act(out + (x if self.shortcut is None else self.shortcut(x)))
        return total


def projection(block: residual.ResidualBasic | residual.ResidualBottleneck) -> ConvUnit | None:
    """The convolution of a block's shortcut, if it has one."""
    if not block.projection:
        return None
    return conv_unit(block.in_channels, block.out_channels, "none", stride=block.stride)


class ChannelShuffle(nn.Module):
    """[N, C, H, W] -> the same shape: the first channel of each group, then the second of each, and so on."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        # Not torch's channel_shuffle, whose backward pass is five times as slow on a CPU.
        count, channels, *size = x.shape
        return x.reshape(count, self.groups, channels // self.groups, *size).transpose(1, 2).reshape(x.shape)


class ShuffleUnit(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: grouped 1x1, shuffle, depthwise and grouped 1x1 convolution, joined with the
    input."""

    def __init__(self, block: shuffle.ShuffleUnit) -> None:
        super().__init__()
        mid, groups = block.mid_channels, block.groups
        self.grows = block.grows
        self.compress = conv_unit(block.in_channels, mid, "relu", groups=block.compress_groups)
        self.shuffle = ChannelShuffle(groups) if groups > 1 else nn.Identity()
        self.depthwise = conv_unit(mid, mid, "none", kernel=3, stride=block.stride, groups=mid)
        self.expand = conv_unit(mid, block.made_channels, "none", groups=groups)
        self.pool = nn.AvgPool2d(3, block.stride, padding=1) if block.stride > 1 else nn.Identity()
        self.act = activation("relu")

    def forward(self, x: Tensor) -> Tensor:
        out = self.expand(self.depthwise(self.shuffle(self.compress(x))))
        joined = torch.cat([self.pool(x), out], dim=1) if self.grows else out + x
        total: Tensor = self.act(joined)
        return total


class MaxPool(nn.Module):
    """[N, C, H, W] -> [N, C, H', W']: the maximum of each window."""

    def __init__(self, block: pooling.MaxPool) -> None:
        super().__init__()
        odd = block.kernel % 2
        self.pool = nn.MaxPool2d(block.kernel, block.stride, padding=block.kernel // 2 if odd else 0, ceil_mode=not odd)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(x)
        return out


class Norm(nn.Module):
    """[N, C, H, W] -> the same shape: batch norm and activation."""

    def __init__(self, block: basic.Norm) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(block.in_channels)
        self.act = activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        return norm_act(x, self.norm, self.act)


class Classifier(nn.Module):
    """[N, C, H, W] -> logits [N, classes]."""

    def __init__(self, block: basic.Classifier) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(block.in_channels, block.out_channels)
        _draw(self.linear.weight, 0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits
