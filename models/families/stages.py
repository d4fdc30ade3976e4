"""A family as a declarative table of stages. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from paretofit.models.architecture import Architecture, Block
from paretofit.models.families.scaling import Scale, make_divisible, nominal_strides, slimmable, truncated
from paretofit.models.kinds.basic import Activation, Classifier, Conv
from paretofit.models.kinds.inverted import InvertedResidual
from paretofit.models.kinds.pooling import MaxPool
from paretofit.models.kinds.separable import Separable
from paretofit.models.kinds.shuffle import ShuffleUnit


@dataclass(frozen=True, slots=True)
class Stage:
    """`repeat` blocks of kind `op` with `out` channels; the first has the stride. 3x3 kernels, except for `pointwise`.

    `expand` multiplies the input's channels inside a block. `keeps`: a width below 1 does not change its channels, and
    a slimmable network has no width for it.
    """

    op: str
    out: int
    stride: int = 1
    repeat: int = 1
    groups: int = 1
    expand: int = 1
    act: Activation = "relu"
    keeps: bool = False
    divisor: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A family: its stages, and the divisor of its channels at a fixed width, unless the stage sets one (unset:
    truncated)."""

    stages: tuple[Stage, ...]
    divisor: int | None = None

    @property
    def widths(self) -> int:
        """Number of stage widths, from the input to the output."""
        return sum(not stage.keeps for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Step:
    """One block to build."""

    stage: Stage
    in_channels: int
    out_channels: int
    stride: int
    repeated: bool
    """Whether the preceding block is in the same stage."""


def _conv(step: Step) -> Block:
    stage = step.stage
    return Conv(step.in_channels, step.out_channels, 3, step.stride, stage.groups, norm=True, activation=stage.act)


def _pointwise(step: Step) -> Block:
    stage = step.stage
    return Conv(step.in_channels, step.out_channels, 1, step.stride, stage.groups, norm=True, activation=stage.act)


def _max_pool(step: Step) -> Block:
    return MaxPool(step.in_channels, step.out_channels, 3, step.stride)


def _separable(step: Step) -> Block:
    return Separable(step.in_channels, step.out_channels, 3, step.stride, step.stage.act)


def _inverted(step: Step) -> Block:
    mid = step.stage.expand * step.in_channels
    # From the table instead of the rounded channels, so that every width of a network has the same layers.
    return InvertedResidual(
        step.in_channels, mid, step.out_channels, 3, step.stride, step.stage.act, residual=step.repeated
    )


def _shuffle(step: Step) -> Block:
    groups = step.stage.groups
    return ShuffleUnit(step.in_channels, step.out_channels // 4, step.out_channels, step.stride, groups, groups)


def _shuffle_entry(step: Step) -> Block:
    # The input has too few channels for groups.
    groups = step.stage.groups
    return ShuffleUnit(step.in_channels, step.out_channels // 4, step.out_channels, step.stride, groups, 1)


OPS: dict[str, Callable[[Step], Block]] = {
    "conv": _conv,
    "pointwise": _pointwise,
    "max_pool": _max_pool,
    "separable": _separable,
    "inverted": _inverted,
    "shuffle": _shuffle,
    "shuffle_entry": _shuffle_entry,
}


def assemble(family: str, table: Table, scale: Scale) -> Architecture:
    """The table's network at a scale. Raises ValueError if the scale is not supported."""
    table_strides = tuple(stage.stride if i == 0 else 1 for stage in table.stages for i in range(stage.repeat))
    strides = iter(nominal_strides(table_strides, scale.nominal))
    blocks: list[Block] = []
    channels = scale.channels
    widths = iter(scale.widths(table.widths))
    width = 1.0
    for stage in table.stages:
        # A stage that keeps its channels otherwise follows the width of the stage before it.
        width = width if stage.keeps else next(widths)
        out_channels = _channels(stage, table, scale, width)
        for i in range(stage.repeat):
            stride = next(strides)
            if stage.op == "max_pool" and stride == 1:
                continue
            blocks.append(OPS[stage.op](Step(stage, channels, out_channels, stride, repeated=i > 0)))
            channels = out_channels
    blocks.append(Classifier(channels, scale.classes))
    return Architecture(family, scale.nominal, scale.channels, scale.classes, tuple(blocks))


def _channels(stage: Stage, table: Table, scale: Scale, width: float) -> int:
    divisor = stage.divisor or table.divisor

    def rounded(base: int, width: float) -> int:
        if scale.slimmable:
            return slimmable(base, width)
        return truncated(base, width) if divisor is None else make_divisible(base * width, divisor)

    kept = stage.keeps and scale.keep_last_channels
    full = rounded(stage.out, max(1.0, scale.base_width) if kept else scale.base_width)
    if not stage.keeps:
        return rounded(full, width)
    return full if scale.slimmable else rounded(full, max(1.0, width))
