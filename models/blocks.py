"""The torch modules of the kinds of block in `models.kinds`: one class each, its submodules named as the block's layers."""

from __future__ import annotations

from torch import Tensor, nn

from models.kinds import basic, preactivation, separable
from models.kinds.basic import Activation


def conv(in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, Kaiming normal by the fan-out of each group (He et al., arXiv 1502.01852)."""
    module = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    fan_out = kernel**2 * out_channels // groups
    nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)
    return module


def activation(name: Activation) -> nn.Module:
    """The activation of this name."""
    match name:
        case "relu":
            return nn.ReLU(inplace=True)
        case "relu6":
            return nn.ReLU6(inplace=True)
        case "none":
            return nn.Identity()


class ConvUnit(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: convolution, batch normalisation if asked for, activation."""

    def __init__(self, block: basic.Conv) -> None:
        super().__init__()
        self.conv = conv(
            block.in_channels, block.out_channels, kernel=block.kernel, stride=block.stride, groups=block.groups
        )
        self.norm = nn.BatchNorm2d(block.out_channels) if block.norm else nn.Identity()
        self.act = activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class Separable(nn.Module):
    """[N, C, H, W] -> [N, C', H', W']: depthwise, then pointwise convolution."""

    def __init__(self, block: separable.Separable) -> None:
        super().__init__()
        channels, act = block.in_channels, block.activation
        self.depthwise = ConvUnit(
            basic.Conv(channels, channels, block.kernel, block.stride, groups=channels, norm=True, activation=act)
        )
        self.pointwise = ConvUnit(
            basic.Conv(channels, block.out_channels, kernel=1, stride=1, groups=1, norm=True, activation=act)
        )

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
        out = self.act1(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        out = self.conv2(self.act2(self.norm2(self.conv1(out))))
        total: Tensor = out + shortcut
        return total


class Norm(nn.Module):
    """[N, C, H, W] -> the same shape: batch normalisation and activation."""

    def __init__(self, block: basic.Norm) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(block.in_channels)
        self.act = activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(x))
        return out


class Classifier(nn.Module):
    """[N, C, H, W] -> logits [N, classes]."""

    def __init__(self, block: basic.Classifier) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(block.in_channels, block.out_channels)
        nn.init.normal_(self.linear.weight, 0.0, 0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits
