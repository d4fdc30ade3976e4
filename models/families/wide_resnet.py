"""WideResNet for small images (CIFAR): Zagoruyko & Komodakis, 2016 (arXiv 1605.07146), table 1, basic blocks."""

from __future__ import annotations

import re

from paretofit.models.architecture import Architecture, Block
from paretofit.models.families.scaling import Scale, slimmable
from paretofit.models.kinds.basic import Classifier, Conv, Norm
from paretofit.models.kinds.preactivation import PreactivationBasic

PATTERN = re.compile(r"wrn_([1-9]\d{0,2})_([1-9]\d?)")
DEEPEST = 100
"""Layers; published ones have 40 at most. What a network costs is computed for thousands of its widths and sizes."""
STEM = 16
STAGES = (16, 32, 64)
"""Channels at widening factor 1; the second and third stage begin with stride 2 at any nominal size."""


def wide_resnet(family: str, scale: Scale) -> Architecture:
    """`wrn_D_K`: D = 6 n + 4 layers, K times as wide. Raises ValueError for another depth, or one above `DEEPEST`.

    A stage has a width of its own, the first convolution that of the first: with K = 1 their channels are added.
    """
    match = PATTERN.fullmatch(family)
    if match is None:
        raise ValueError(f"{family}: a WideResNet is wrn_D_K, D and K being its depth and widening factor")
    depth, widening = int(match[1]), int(match[2])
    per_stage, rest = divmod(depth - 4, 6)
    if rest or per_stage < 1 or depth > DEEPEST:
        raise ValueError(f"{family}: the depth must be 6 n + 4 and at most {DEEPEST}, such as 10, 16, 22, 28 or 40")

    widths = scale.widths(len(STAGES))

    def channels(base: int, stage: int) -> int:
        return slimmable(slimmable(base, scale.base_width), widths[stage])

    in_channels = channels(STEM, 0)
    blocks: list[Block] = [Conv(scale.channels, in_channels, 3, 1, 1, norm=False, activation="none")]
    base = STEM
    for stage, unit in enumerate(STAGES):
        for i in range(per_stage):
            stride = 2 if stage > 0 and i == 0 else 1
            # By the table, not by the rounded channels: every width of a network has the same layers.
            projection = stride != 1 or base != unit * widening
            base = unit * widening
            out_channels = channels(base, stage)
            blocks.append(PreactivationBasic(in_channels, out_channels, out_channels, stride, projection))
            in_channels = out_channels
    blocks += [Norm(in_channels, in_channels, "relu"), Classifier(in_channels, scale.classes)]
    return Architecture(family, scale.nominal, scale.channels, scale.classes, tuple(blocks))
