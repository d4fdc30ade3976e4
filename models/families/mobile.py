"""The MobileNets, each one declarative table of stages.

MobileNetV1: Howard et al., 2017 (arXiv 1704.04861), with ReLU6 as MutualNet has it (arXiv 1909.12978). MobileNetV2:
Sandler et al., 2018 (arXiv 1801.04381), table 2. FD-MobileNet: Qin et al., 2018 (arXiv 1802.03750).
"""

from __future__ import annotations

from paretofit.models.architecture import Architecture
from paretofit.models.families.scaling import Scale
from paretofit.models.families.stages import Stage, Table, assemble

TABLES = {
    "mobilenet_v1": Table(
        (
            Stage("conv", 32, stride=2, act="relu6"),
            Stage("separable", 64, act="relu6"),
            Stage("separable", 128, stride=2, repeat=2, act="relu6"),
            Stage("separable", 256, stride=2, repeat=2, act="relu6"),
            Stage("separable", 512, stride=2, repeat=6, act="relu6"),
            Stage("separable", 1024, stride=2, repeat=2, act="relu6"),
        )
    ),
    "mobilenet_v2": Table(
        (
            Stage("conv", 32, stride=2, act="relu6"),
            Stage("inverted", 16, act="relu6"),
            Stage("inverted", 24, stride=2, repeat=2, expand=6, act="relu6"),
            Stage("inverted", 32, stride=2, repeat=3, expand=6, act="relu6"),
            Stage("inverted", 64, stride=2, repeat=4, expand=6, act="relu6"),
            Stage("inverted", 96, repeat=3, expand=6, act="relu6"),
            Stage("inverted", 160, stride=2, repeat=3, expand=6, act="relu6"),
            Stage("inverted", 320, expand=6, act="relu6"),
            Stage("pointwise", 1280, act="relu6", keeps=True),
        ),
        divisor=8,
    ),
    "fd_mobilenet": Table(
        (
            Stage("conv", 32, stride=2),
            Stage("separable", 64, stride=2),
            Stage("separable", 128, stride=2, repeat=2),
            Stage("separable", 256, stride=2, repeat=2),
            Stage("separable", 512, stride=2, repeat=5),
            Stage("separable", 1024),
        )
    ),
}


def mobile(family: str, scale: Scale) -> Architecture:
    """A family of `TABLES` at a scale.

    MobileNetV2's last convolution keeps its channels at every width of a slimmable network, and below 1 of a fixed one.
    """
    return assemble(family, TABLES[family], scale)
