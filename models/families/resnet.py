"""ResNet: He et al., 2015 (arXiv 1512.03385), table 1, the stride in the 3x3; ResNeXt: Xie et al., 2016 (arXiv
1611.05431)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from paretofit.models.architecture import Architecture, Block
from paretofit.models.families.scaling import Scale, nominal_strides, slimmable
from paretofit.models.kinds.basic import Classifier, Conv
from paretofit.models.kinds.pooling import MaxPool
from paretofit.models.kinds.residual import ResidualBasic, ResidualBottleneck

STEM = 64
STAGES = (64, 128, 256, 512)
"""Outputs of basic blocks, and the middle channels of bottlenecks, whose outputs are 4 times as many."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Blocks by stage. With `groups`, the middle of a bottleneck has this many groups, of `group_width` channels in the
    first stage and twice as many in each later one."""

    repeats: tuple[int, int, int, int]
    bottleneck: bool
    groups: int | None = None
    group_width: int = 0


VARIANTS = {
    "resnet18": Variant((2, 2, 2, 2), bottleneck=False),
    "resnet34": Variant((3, 4, 6, 3), bottleneck=False),
    "resnet50": Variant((3, 4, 6, 3), bottleneck=True),
    "resnet101": Variant((3, 4, 23, 3), bottleneck=True),
    "resnet152": Variant((3, 8, 36, 3), bottleneck=True),
    "resnext50_32x4d": Variant((3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
}


def resnet(family: str, scale: Scale) -> Architecture:
    """A network of `VARIANTS`, with multiples of 8 channels at any width.

    Each stage has its own width; the stem has that of the first, because their channels are added. With bottlenecks,
    stem and middle are a quarter of such a multiple (MutualNet, arXiv 1909.12978); the middle of ResNeXt consists of
    whole groups. Below 128 pixels the stem is a 3x3 convolution without max-pool, below 64 without stride.
    """
    variant = VARIANTS[family]
    expansion, quarter = (4, 0.25) if variant.bottleneck else (1, 1.0)

    widths = scale.widths(len(STAGES))

    def channels(base: int, stage: int, ratio: float = 1.0) -> int:
        return slimmable(slimmable(base, scale.base_width, ratio), widths[stage], ratio)

    def block(in_channels: int, stage: int, stride: int, *, projection: bool) -> Block:
        out_channels = channels(STAGES[stage] * expansion, stage)
        if not variant.bottleneck:
            return ResidualBasic(in_channels, out_channels, out_channels, stride, projection)
        groups, mid_channels = 1, channels(STAGES[stage], stage, quarter)
        if variant.groups is not None:
            groups = channels(variant.groups, stage, 1 / 8)  # An eighth of a multiple of 8: any whole number.
            mid_channels = groups * variant.group_width * 2**stage
        return ResidualBottleneck(in_channels, mid_channels, out_channels, stride, groups, projection)

    stages = [stage for stage, count in enumerate(variant.repeats) for _ in range(count)]
    table_strides = [1 if stage == before else 2 for before, stage in pairwise((0, *stages))]
    # The pool comes before the stem in the list, because small forms lose it first.
    pool_stride, stem_stride, *strides = nominal_strides((2, 2, *table_strides), scale.nominal)
    blocks = stem(scale.channels, channels(STEM, 0, quarter), stem_stride=stem_stride, pool_stride=pool_stride)
    base = STEM
    for stage, stride in zip(stages, strides, strict=True):
        # From the table instead of the rounded channels, so that every width of a network has the same layers.
        projection = stride != 1 or base != STAGES[stage] * expansion
        base = STAGES[stage] * expansion
        blocks.append(block(blocks[-1].out_channels, stage, stride, projection=projection))
    blocks.append(Classifier(blocks[-1].out_channels, scale.classes))
    return Architecture(family, scale.nominal, scale.channels, scale.classes, tuple(blocks))


def stem(in_channels: int, out_channels: int, *, stem_stride: int, pool_stride: int) -> list[Block]:
    """A 7x7 convolution and a max-pool; a 3x3 convolution alone if the pool has lost its stride."""
    kernel = 7 if pool_stride == 2 else 3
    blocks: list[Block] = [Conv(in_channels, out_channels, kernel, stem_stride, 1, norm=True, activation="relu")]
    if pool_stride == 2:
        blocks.append(MaxPool(out_channels, out_channels, 3, pool_stride))
    return blocks
