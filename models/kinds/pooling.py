"""Pooling between blocks, as in ResNet's stem and VGG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.trace import Layer, Shape, Size, pool


@register
@dataclass(frozen=True, slots=True)
class MaxPool(Block):
    """Max-pool with ceil(side / stride) output pixels: an odd kernel is padded by kernel // 2; an even one equals the
    stride, and its last window may extend beyond the map."""

    kind: ClassVar[str] = "max_pool"
    module: ClassVar[str] = "paretofit.models.blocks:MaxPool"
    permutable: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    kernel: int
    stride: int

    def layers(self, size: Size) -> tuple[Layer, ...]:
        if self.in_channels != self.out_channels:
            raise ValueError(f"out_channels must be {self.in_channels}, because a pool keeps the channels")
        return (pool("pool", Shape(self.in_channels, *size), "max_pool", kernel=self.kernel, stride=self.stride),)
