"""Scale aggregation: Li et al., ScaleNet, CVPR 2019 (arXiv 1904.09460), section 3.1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from paretofit.models.architecture import Architecture, Block, register
from paretofit.models.kinds.basic import conv_unit
from paretofit.models.trace import (
    Layer,
    Shape,
    Size,
    activation,
    add,
    batch_norm,
    conv,
    divides,
    floor_pool,
    joined,
    pooled_size,
    upsample,
)


@register
@dataclass(frozen=True, slots=True)
class ScaleAggregation(Block):
    """Parallel branches, concatenated: max-pool by the branch's scale, convolution to its width, upsampling to the
    input's size, batch norm. A branch of scale 1 neither pools nor upsamples.

    Upsampling is nearest-neighbor where the input's sides are multiples of the small map's, else bilinear.
    """

    kind: ClassVar[str] = "scale_aggregation"
    module: ClassVar[str] = "paretofit.models.layers.scale_aggregation:ScaleAggregation"

    in_channels: int
    out_channels: int
    scales: tuple[int, ...]
    widths: tuple[int, ...]
    kernels: tuple[int, ...]

    def layers(self, size: Size) -> tuple[Layer, ...]:
        return self.traced(Shape(self.in_channels, *size))

    def traced(
        self, x: Shape, *, prefix: str = "", held: int = 0, kept: bool = False, in_parts: tuple[int, ...] = ()
    ) -> tuple[Layer, ...]:
        """The layers on `x`, whose channels are `in_parts`. `kept` if a later layer reads `x` again; `held` counts
        elements kept for others."""
        self._check()
        found: list[Layer] = []
        last = len(self.scales) - 1
        for i, (scale, width, kernel) in enumerate(zip(self.scales, self.widths, self.kernels, strict=True)):
            name = f"{prefix}branches.{i}."
            beside = held + (x.elements if kept or i < last else 0)
            if scale == 1:
                norm_input = conv(f"{name}conv", x, width, kernel=kernel, held=held, in_parts=in_parts)
                found.append(norm_input)
            else:
                pool = floor_pool(f"{name}pool", x, scale, held=held)
                small = conv(f"{name}conv", pool.output, width, kernel=kernel, held=beside, in_parts=in_parts)
                norm_input = upsample(f"{name}upsample", small.output, x.size, held=beside)
                found += (pool, small, norm_input)
            found.append(batch_norm(f"{name}norm", norm_input.output, held=beside))
            held += norm_input.output.elements
        if last > 0:
            together = Shape(self.out_channels, *x.size)
            rest = held - together.elements + (x.elements if kept else 0)
            found.append(joined(f"{prefix}concat", together, held=rest))
        return tuple(found)

    def sizes(self, size: Size) -> tuple[Size, ...]:
        """Size of each branch's map before it is upsampled."""
        return tuple(pooled_size(size, scale) for scale in self.scales)

    def _check(self) -> None:
        if not len(self.scales) == len(self.widths) == len(self.kernels) > 0:
            raise ValueError(f"{len(self.scales)} scales need as many widths and kernels, and at least one of each")
        if list(self.scales) != sorted(set(self.scales)) or self.scales[0] < 1:
            raise ValueError(f"scales must be ascending and at least 1, not {self.scales}")
        if sum(self.widths) != self.out_channels:
            raise ValueError(f"the widths {self.widths} do not add up to {self.out_channels} channels")


@register
@dataclass(frozen=True, slots=True)
class ScaleBottleneck(Block):
    """Conv 1x1, ReLU, scale aggregation, ReLU, conv 1x1, each with batch norm, added to the shortcut; ReLU.

    A stride above 1 is a max-pool on the block's input, before both paths. The shortcut is that input, or its 1x1
    convolution with batch norm if `projection`.
    """

    kind: ClassVar[str] = "scale_bottleneck"
    module: ClassVar[str] = "paretofit.models.layers.scale_aggregation:ScaleBottleneck"

    in_channels: int
    mid_channels: int
    out_channels: int
    stride: int
    projection: bool
    aggregation: ScaleAggregation

    def layers(self, size: Size) -> tuple[Layer, ...]:
        inner = self.aggregation
        _check_joint("aggregation.in_channels", inner.in_channels, self.mid_channels)
        pool, x = _strided(self, size)
        held = x.elements
        first, *rest = conv_unit("reduce.", x, self.mid_channels, "relu")
        reduce = (first, *(replace(layer, held=held) for layer in rest))
        aggregate = inner.traced(reduce[-1].output, prefix="aggregate.", held=held)
        act = activation("aggregate_act", aggregate[-1].output, "relu", held=held)
        expand = conv("expand.conv", act.output, self.out_channels, held=held, in_parts=inner.widths)
        norm = batch_norm("expand.norm", expand.output, held=held)
        return (*pool, *_closed(self, x, (*reduce, *aggregate, act, expand, norm)))

    def fast_macs(self, size: Size) -> int:
        """Counts the slices of the last convolution that read a nearest-upsampled branch at that branch's size."""
        height, width = full = pooled_size(size, self.stride)
        inner = self.aggregation
        saved = sum(
            channels * (height * width - small[0] * small[1])
            for channels, small in zip(inner.widths, inner.sizes(full), strict=True)
            if divides(small, full)
        )
        return sum(layer.macs for layer in self.layers(size)) - self.out_channels * saved


@register
@dataclass(frozen=True, slots=True)
class ScaleBasic(Block):
    """Scale aggregation, ReLU, scale aggregation, added to the shortcut; ReLU. Stride and shortcut as in
    `ScaleBottleneck`."""

    kind: ClassVar[str] = "scale_basic"
    module: ClassVar[str] = "paretofit.models.layers.scale_aggregation:ScaleBasic"

    in_channels: int
    out_channels: int
    stride: int
    projection: bool
    first: ScaleAggregation
    second: ScaleAggregation

    def layers(self, size: Size) -> tuple[Layer, ...]:
        _check_joint("first.in_channels", self.first.in_channels, self.in_channels)
        _check_joint("second.in_channels", self.second.in_channels, self.first.out_channels)
        _check_joint("second.out_channels", self.second.out_channels, self.out_channels)
        pool, x = _strided(self, size)
        first = self.first.traced(x, prefix="first.", kept=True)
        act = activation("first_act", first[-1].output, "relu", held=x.elements)
        second = self.second.traced(act.output, prefix="second.", held=x.elements, in_parts=self.first.widths)
        return (*pool, *_closed(self, x, (*first, act, *second)))


def aggregations(architecture: Architecture) -> dict[str, ScaleAggregation]:
    """Every scale aggregation of a network by its module's name, in order."""
    found: dict[str, ScaleAggregation] = {}
    for i, block in enumerate(architecture.blocks):
        match block:
            case ScaleBottleneck():
                found[f"blocks.{i}.aggregate"] = block.aggregation
            case ScaleBasic():
                found[f"blocks.{i}.first"] = block.first
                found[f"blocks.{i}.second"] = block.second
            case ScaleAggregation():
                found[f"blocks.{i}"] = block
    return found


def _check_joint(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{name} must be {expected}, not {found}")


def _strided(block: ScaleBottleneck | ScaleBasic, size: Size) -> tuple[tuple[Layer, ...], Shape]:
    x = Shape(block.in_channels, *size)
    if block.stride < 1:
        raise ValueError(f"stride must be 1 or more, not {block.stride}")
    if block.stride == 1:
        return (), x
    pool = floor_pool("pool", x, block.stride)
    return (pool,), pool.output


def _closed(block: ScaleBottleneck | ScaleBasic, x: Shape, body: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The body, which keeps `x`, then the shortcut and their sum."""
    out = body[-1].output
    if block.projection:
        made = conv_unit("shortcut.", x, block.out_channels, "none")
        shortcut = tuple(replace(layer, held=out.elements) for layer in made)
        total = add("add", out, shortcut[-1].output)
    elif block.in_channels == block.out_channels:
        shortcut, total = (), add("add", out, x)
    else:
        raise ValueError("a block that changes its channels needs `projection`")
    return (*body, *shortcut, total, activation("act", out, "relu"))
