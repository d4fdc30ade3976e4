"""WideResNet for small images (CIFAR): Zagoruyko & Komodakis, 2016 (arXiv 1605.07146), table 1, basic blocks."""

from __future__ import annotations

import re

from paretofit.models.architecture import Architecture, Block
from paretofit.models.families.scaling import Scale, slimmable
from paretofit.models.kinds.basic import Classifier, Conv, Norm
from paretofit.models.kinds.preactivation import PreactivationBasic

PATTERN = re.compile(r"wrn_([1-9]\d{0,2})_([1-9]\d?)")
DEEPEST = 100
"""Maximum number of layers; published networks have at most 40. Costs are computed for thousands of widths and
sizes."""
STEM = 16
STAGES = (16, 32, 64)
"""Channels at widening factor 1; the second and third stage begin with stride 2 at any nominal size."""


def wide_resnet(family: str, scale: Scale) -> Architecture:
    """`wrn_D_K`: D = 6 n + 4 layers, K times as wide. Raises ValueError for another depth, or one above `DEEPEST`.

    Each stage has its own width; the first convolution has that of the first, because with K = 1 their channels are
    added.
    """
    match = PATTERN.fullmatch(family)
    if match is None:
        raise ValueError(f"{family}: invalid name; write wrn_D_K, with depth D and widening factor K")
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
            # From the table instead of the rounded channels, so that every width of a network has the same layers.
            projection = stride != 1 or base != unit * widening
            base = unit * widening
            out_channels = channels(base, stage)
            blocks.append(PreactivationBasic(in_channels, out_channels, out_channels, stride, projection))
            in_channels = out_channels
    blocks += [Norm(in_channels, in_channels, "relu"), Classifier(in_channels, scale.classes)]
    return Architecture(family, scale.nominal, scale.channels, scale.classes, tuple(blocks))
