"""Residual blocks: He et al., ResNet, 2015 (arXiv 1512.03385), figure 5; grouped: Xie et al., ResNeXt, 2016 (arXiv
1611.05431)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.kinds.basic import conv_unit
from paretofit.models.trace import INPUT, Layer, Shape, Size, activation, add


def with_shortcut(x: Shape, body: tuple[Layer, ...], shortcut: tuple[Layer, ...] = ()) -> tuple[Layer, ...]:
    """The body on `x`, then the shortcut (if any, else `x` itself), then their sum. `x` is kept until then."""
    first, *rest = body
    out = body[-1].output
    beside = tuple(
        replace(layer, held=out.elements, reads=layer.reads if i else (INPUT,)) for i, layer in enumerate(shortcut)
    )
    name, other = (beside[-1].name, beside[-1].output) if beside else (INPUT, x)
    return (
        first,
        *(replace(layer, held=x.elements) for layer in rest),
        *beside,
        add("add", out, other, reads=(body[-1].name, name)),
    )


@register
@dataclass(frozen=True, slots=True)
class ResidualBasic(Block):
    """Conv 3x3 (with the stride), ReLU, conv 3x3, each with batch norm, added to the shortcut; ReLU.

    The shortcut is the input, or its 1x1 convolution with batch norm if `projection`.
    """

    kind: ClassVar[str] = "residual_basic"
    module: ClassVar[str] = "paretofit.models.blocks:ResidualBasic"
    permutable: ClassVar[bool] = True

    in_channels: int
    mid_channels: int
    out_channels: int
    stride: int
    projection: bool

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        first = conv_unit("first.", x, self.mid_channels, "relu", kernel=3, stride=self.stride)
        second = conv_unit("second.", first[-1].output, self.out_channels, "none", kernel=3)
        return _closed(self, x, first + second)


@register
@dataclass(frozen=True, slots=True)
class ResidualBottleneck(Block):
    """Conv 1x1, ReLU, conv 3x3 (with the stride and the groups), ReLU, conv 1x1, each with batch norm, added to the
    shortcut; ReLU. The shortcut is the input, or its 1x1 convolution with batch norm if `projection`."""

    kind: ClassVar[str] = "residual_bottleneck"
    module: ClassVar[str] = "paretofit.models.blocks:ResidualBottleneck"
    permutable: ClassVar[bool] = True

    in_channels: int
    mid_channels: int
    out_channels: int
    stride: int
    groups: int
    projection: bool

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        reduce = conv_unit("reduce.", x, self.mid_channels, "relu")
        spatial = conv_unit(
            "spatial.", reduce[-1].output, self.mid_channels, "relu", kernel=3, stride=self.stride, groups=self.groups
        )
        expand = conv_unit("expand.", spatial[-1].output, self.out_channels, "none")
        return _closed(self, x, reduce + spatial + expand)


def _closed(block: ResidualBasic | ResidualBottleneck, x: Shape, body: tuple[Layer, ...]) -> tuple[Layer, ...]:
    shortcut: tuple[Layer, ...] = ()
    if block.projection:
        shortcut = conv_unit("shortcut.", x, block.out_channels, "none", stride=block.stride)
    elif block.stride != 1 or block.in_channels != block.out_channels:
        raise ValueError("a block that changes its channels or size needs `projection`")
    total = with_shortcut(x, body, shortcut)
    return (*total, activation("act", total[-1].output, "relu"))
