"""Inverted residual with a linear bottleneck: Sandler et al., MobileNetV2, 2018 (arXiv 1801.04381), section 3.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.kinds.basic import Activation, conv_unit
from paretofit.models.kinds.residual import with_shortcut
from paretofit.models.trace import Layer, Shape, Size


@register
@dataclass(frozen=True, slots=True)
class InvertedResidual(Block):
    """Conv 1x1 to `mid_channels` (left out if they equal the input's), depthwise convolution with the stride, both
    activated, then conv 1x1 without activation, each with batch norm; added to the input if `residual`."""

    kind: ClassVar[str] = "inverted_residual"
    module: ClassVar[str] = "paretofit.models.blocks:InvertedResidual"
    permutable: ClassVar[bool] = True

    in_channels: int
    mid_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: Activation
    residual: bool

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        if self.residual and (self.stride != 1 or self.in_channels != self.out_channels):
            raise ValueError("a block that changes its channels or size cannot be `residual`")
        mid, act = self.mid_channels, self.activation
        expand = conv_unit("expand.", x, mid, act) if mid != self.in_channels else ()
        depthwise = conv_unit(
            "depthwise.",
            expand[-1].output if expand else x,
            mid,
            act,
            kernel=self.kernel,
            stride=self.stride,
            groups=mid,
        )
        project = conv_unit("project.", depthwise[-1].output, self.out_channels, "none")
        body = expand + depthwise + project
        return with_shortcut(x, body) if self.residual else body
