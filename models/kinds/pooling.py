"""Pooling between blocks, as ResNet's stem and VGG have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.trace import Layer, Shape, Size, pool


@register
@dataclass(frozen=True, slots=True)
class MaxPool(Block):
    """The maximum of each window, leaving ceil(side / stride) pixels: an odd kernel is padded by kernel // 2, an even
    one is the stride, and its last window may hang over."""

    kind: ClassVar[str] = "max_pool"
    module: ClassVar[str] = "paretofit.models.blocks:MaxPool"
    permutable: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    kernel: int
    stride: int

    def layers(self, size: Size) -> tuple[Layer, ...]:
        if self.in_channels != self.out_channels:
            raise ValueError(f"a pool keeps its {self.in_channels} channels")
        return (pool("pool", Shape(self.in_channels, *size), "max_pool", kernel=self.kernel, stride=self.stride),)
