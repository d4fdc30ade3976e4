"""Pre-activation residual blocks: He et al., 2016 (arXiv 1603.05027); wide: Zagoruyko & Komodakis, 2016 (arXiv
1605.07146)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.trace import INPUT, Layer, Shape, Size, activation, add, batch_norm, conv


@register
@dataclass(frozen=True, slots=True)
class PreactivationBasic(Block):
    """BN-ReLU-conv 3x3 twice, added to the input, or to a 1x1 convolution of the activated input if `projection`."""

    kind: ClassVar[str] = "preactivation_basic"
    module: ClassVar[str] = "paretofit.models.blocks:PreactivationBasic"
    permutable: ClassVar[bool] = True

    in_channels: int
    mid_channels: int
    out_channels: int
    stride: int
    projection: bool

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        if not self.projection and (self.stride != 1 or self.in_channels != self.out_channels):
            raise ValueError("a block that changes its channels or size needs `projection`")
        # An identity shortcut keeps the input until the addition; a projection needs only the activated input.
        kept = 0 if self.projection else x.elements
        entry = (batch_norm("norm1", x, held=kept), activation("act1", x, "relu", held=kept))
        shortcut: tuple[Layer, ...] = ()
        if self.projection:
            shortcut = (conv("shortcut", x, self.out_channels, stride=self.stride),)
            kept = shortcut[0].output.elements
        first = conv("conv1", x, self.mid_channels, kernel=3, stride=self.stride, held=kept, reads=("act1",))
        norm = batch_norm("norm2", first.output, held=kept)
        act = activation("act2", first.output, "relu", held=kept)
        second = conv("conv2", act.output, self.out_channels, kernel=3, held=kept)
        total = add(
            "add",
            second.output,
            shortcut[0].output if shortcut else x,
            reads=("conv2", "shortcut" if shortcut else INPUT),
        )
        return (*entry, *shortcut, first, norm, act, second, total)
