"""ShuffleNet unit: Zhang et al., ShuffleNet, 2017 (arXiv 1707.01083), figure 2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.kinds.basic import conv_unit
from paretofit.models.kinds.residual import with_shortcut
from paretofit.models.trace import Layer, Shape, Size, activation, concat, pool, shuffle


@register
@dataclass(frozen=True, slots=True)
class ShuffleUnit(Block):
    """Conv 1x1 in `compress_groups` to `mid_channels`, ReLU, channel shuffle, depthwise 3x3 with the stride, conv 1x1
    in `groups`, each with batch norm, joined to the input; ReLU.

    It is added if the number of channels stays the same. If it grows, the input (its 3x3 average at a stride above 1)
    comes first and the unit computes the additional channels.
    """

    kind: ClassVar[str] = "shuffle_unit"
    module: ClassVar[str] = "paretofit.models.blocks:ShuffleUnit"

    in_channels: int
    mid_channels: int
    out_channels: int
    stride: int
    groups: int
    compress_groups: int

    @property
    def made_channels(self) -> int:
        """Outputs of its last convolution."""
        return self.out_channels - (self.in_channels if self.grows else 0)

    @property
    def grows(self) -> bool:
        """Whether its input is concatenated rather than added."""
        return self.out_channels != self.in_channels

    def layers(self, size: Size) -> tuple[Layer, ...]:
        if self.out_channels < self.in_channels or (self.stride != 1 and not self.grows):
            raise ValueError(
                f"{self.in_channels} -> {self.out_channels} channels: a unit keeps its channels at stride 1, or "
                "has more"
            )
        x = Shape(self.in_channels, *size)
        compress = conv_unit("compress.", x, self.mid_channels, "relu", groups=self.compress_groups)
        mixed = (shuffle("shuffle", compress[-1].output, self.groups),) if self.groups > 1 else ()
        depthwise = conv_unit(
            "depthwise.",
            compress[-1].output,
            self.mid_channels,
            "none",
            kernel=3,
            stride=self.stride,
            groups=self.mid_channels,
        )
        expand = conv_unit("expand.", depthwise[-1].output, self.made_channels, "none", groups=self.groups)
        body = compress + mixed + depthwise + expand
        joined = self._concatenated(x, body) if self.grows else with_shortcut(x, body)
        return (*joined, activation("act", joined[-1].output, "relu"))

    def _concatenated(self, x: Shape, body: tuple[Layer, ...]) -> tuple[Layer, ...]:
        first, *rest = body
        made = body[-1].output
        pooled = (
            (pool("pool", x, "avg_pool", kernel=3, stride=self.stride, held=made.elements),) if self.stride > 1 else ()
        )
        shortcut = pooled[-1].output if pooled else x
        kept = (replace(layer, held=x.elements) for layer in rest)
        return (first, *kept, *pooled, concat("concat", shortcut, made))
