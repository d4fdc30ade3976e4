"""The compact families, each one declarative table of stages.

MobileNetV1: Howard et al., 2017 (arXiv 1704.04861), with ReLU6 as MutualNet has it (arXiv 1909.12978). FD-MobileNet: Qin et al., 2018 (arXiv 1802.03750).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat

from models.architecture import Architecture, Block
from models.families.scaling import Scale, nominal_strides, slimmable, truncated
from models.kinds.basic import Activation, Classifier, Conv
from models.kinds.separable import Separable


@dataclass(frozen=True, slots=True)
class Stage:
    """`repeat` blocks of kind `op` with `out` channels; the first has the stride. 3x3 kernels."""

    op: str
    out: int
    stride: int = 1
    repeat: int = 1
    groups: int = 1
    expand: int = 1
    act: Activation = "relu"


@dataclass(frozen=True, slots=True)
class Table:
    """A family: its stages and how its channels are rounded when its width is fixed."""

    stages: tuple[Stage, ...]
    rounding: Callable[[int, float], int] = truncated


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


def _conv(stage: Stage, in_channels: int, out_channels: int, stride: int) -> Block:
    return Conv(in_channels, out_channels, 3, stride, stage.groups, norm=True, activation=stage.act)


def _separable(stage: Stage, in_channels: int, out_channels: int, stride: int) -> Block:
    return Separable(in_channels, out_channels, 3, stride, stage.act)


OPS: dict[str, Callable[[Stage, int, int, int], Block]] = {"conv": _conv, "separable": _separable}


def mobile(family: str, scale: Scale) -> Architecture:
    """A family of `TABLES` at a scale."""
    table = TABLES[family]
    stages = tuple(chain.from_iterable(repeat(stage, stage.repeat) for stage in table.stages))
    table_strides = chain.from_iterable((stage.stride, *repeat(1, stage.repeat - 1)) for stage in table.stages)
    strides = nominal_strides(tuple(table_strides), scale.nominal)
    rounding = slimmable if scale.slimmable else table.rounding
    blocks: list[Block] = []
    channels = scale.channels
    for stage, stride in zip(stages, strides, strict=True):
        out_channels = rounding(rounding(stage.out, scale.base_width), scale.width)
        blocks.append(OPS[stage.op](stage, channels, out_channels, stride))
        channels = out_channels
    blocks.append(Classifier(channels, scale.classes))
    return Architecture(family, scale.nominal, scale.channels, scale.classes, tuple(blocks))
