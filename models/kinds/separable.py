"""Depthwise separable convolution: Howard et al., MobileNets, 2017 (arXiv 1704.04861), section 3.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.kinds.basic import Activation, conv_unit
from paretofit.models.trace import Layer, Shape, Size


@register
@dataclass(frozen=True, slots=True)
class Separable(Block):
    """A depthwise convolution with the stride, then a pointwise one, each with batch norm and activation."""

    kind: ClassVar[str] = "separable"
    module: ClassVar[str] = "paretofit.models.blocks:Separable"
    permutable: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: Activation

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        depthwise = conv_unit(
            "depthwise.", x, x.channels, self.activation, kernel=self.kernel, stride=self.stride, groups=x.channels
        )
        pointwise = conv_unit("pointwise.", depthwise[-1].output, self.out_channels, self.activation)
        return depthwise + pointwise
