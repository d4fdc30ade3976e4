"""VGG-16: Simonyan & Zisserman, 2014 (arXiv 1409.1556), table 1, column D.

The form used in later work (Shape Adaptor, arXiv 2008.00892; the backbone of detectors): each of the 13 convolutions
has batch norm and no bias, and a global average pool and one linear layer replace the three fully connected layers,
which hold 124 of the published network's 138 million parameters and fix its input size.
"""

from __future__ import annotations

from paretofit.models.architecture import Architecture, Block
from paretofit.models.families.scaling import Scale, slimmable
from paretofit.models.kinds.basic import Classifier, Conv
from paretofit.models.kinds.pooling import MaxPool

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions; a max-pool ends each stage."""


def vgg(family: str, scale: Scale) -> Architecture:
    """`vgg16`, with multiples of 8 channels at any width, and its five pools at every nominal size.

    The pools round up, so that inputs below 32 pixels keep a pixel; at multiples of 32 this changes nothing.
    """
    blocks: list[Block] = []
    channels = scale.channels
    for (base, repeat), width in zip(STAGES, scale.widths(len(STAGES)), strict=True):
        out_channels = slimmable(slimmable(base, scale.base_width), width)
        for _ in range(repeat):
            blocks.append(Conv(channels, out_channels, 3, 1, 1, norm=True, activation="relu"))
            channels = out_channels
        blocks.append(MaxPool(channels, channels, 2, 2))
    blocks.append(Classifier(channels, scale.classes))
    return Architecture(family, scale.nominal, scale.channels, scale.classes, tuple(blocks))
