"""Scaling of a family's table: channels by a width multiplier, strides by the nominal input size. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DOWNSAMPLINGS = 5
"""Number of downsamplings by 2 in the families' forms for 224 pixels."""

Width = float | tuple[float, ...]
"""A multiplier of all channels, or one for each of a family's stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Scale of a network. `base_width` multiplies the table's channels to those of the full network, which `width` then
    narrows. Raises ValueError for invalid numbers."""

    width: Width = 1.0
    slimmable: bool = False
    base_width: float = 1.0
    nominal: int = 224
    classes: int = 1000
    channels: int = 3
    groups: int | None = None
    """Groups of grouped convolutions, in families that offer a choice."""
    structure: tuple[tuple[int, ...], ...] | None = None
    """Channels by scale (`paretofit.models.families.structures`), in families that support them."""
    keep_last_channels: bool = False
    """Whether a `base_width` below 1 leaves the channels of stages that keep theirs at any `width`, as in published
    weights (MobileNetV2's last convolution)."""

    def __post_init__(self) -> None:
        widths = self.width if isinstance(self.width, tuple) else (self.width,)
        for name, value in (*(("width", width) for width in widths), ("base_width", self.base_width)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value}")
        for name, least in (("nominal", 4), ("classes", 1), ("channels", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, not {getattr(self, name)}")

    def widths(self, stages: int) -> tuple[float, ...]:
        """The multiplier of each stage. Raises ValueError for another number of multipliers."""
        if not isinstance(self.width, tuple):
            return (self.width,) * stages
        if len(self.width) != stages:
            raise ValueError(f"width must be one multiplier, or one for each of {stages} stages, not {len(self.width)}")
        return self.width


def truncated(base: int, width: float) -> int:
    """`int(base * width)`, at least 1: the rule of the fixed-width MobileNets."""
    return max(1, int(base * width))


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least one, and never below 0.9 `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def slimmable(base: int, width: float, ratio: float = 1.0) -> int:
    """Channels of a slimmable network at a width: MutualNet's rule (arXiv 1909.12978), multiples of 8.

    At most `base` for widths up to 1. `ratio` divides a layer's channels before rounding.
    """
    channels = int(make_divisible(base * width / ratio) * ratio)
    return min(channels, base) if width <= 1 else channels


def nominal_strides(strides: Sequence[int], nominal: int) -> tuple[int, ...]:
    """A family's strides for an input of `nominal` pixels: the last floor(log2(nominal / 4)) of its downsamplings, at
    most five, keep stride 2; earlier ones get stride 1."""
    kept = min(DOWNSAMPLINGS, (nominal // 4).bit_length() - 1)
    excess = sum(stride == 2 for stride in strides) - kept
    chosen = []
    for stride in strides:
        earliest = stride == 2 and excess > 0
        excess -= earliest
        chosen.append(1 if earliest else stride)
    return tuple(chosen)
