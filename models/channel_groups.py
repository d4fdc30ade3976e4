"""Groups of a network's channels that can be reordered together, and the tensor dimensions that follow. Torch-free.

Channels that are added to one another, or passed on by a depthwise convolution, a normalization, an activation or a
pool, share one order: they are a group. A dense convolution or the linear layer ends a group, because its input columns
can be permuted accordingly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from paretofit.models.architecture import Architecture
from paretofit.models.trace import INPUT, Layer

_CHANNELWISE: Final = frozenset({"relu", "relu6", "max_pool", "avg_pool", "global_pool", "nearest", "bilinear"})
"""Operations without parameters that compute each channel from the same channel."""
_NORM: Final = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that share one permutation: applied to all `rows` and `columns`, it leaves the network's outputs
    unchanged.

    `name`: the layer that first computes them. `unit`: number of neighbors that move together, the channels of one
    group of a grouped convolution. `rows`: tensors of the state dict, permuted along their first dimension. `columns`:
    the weights of dense convolutions and of the linear layer that read the channels, permuted along the second.
    """

    name: str
    channels: int
    unit: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def channel_groups(architecture: Architecture) -> tuple[ChannelGroup, ...]:
    """The groups of a network, from input to output; tensor dimensions that no group lists have a fixed order.

    Fixed are the image's channels, the classes, and all channels that a block of a kind without `permutable` reads,
    computes or returns. Raises ValueError if a kind's layers declare inconsistent reads.
    """
    flow = _Flow()
    size = (architecture.nominal, architecture.nominal)
    stream = flow.start(architecture.channels, fixed=True)
    for i, block in enumerate(architecture.blocks):
        layers = block.layers(size)
        size = layers[-1].output.size
        if block.permutable:
            stream = flow.through(f"blocks.{i}.", layers, stream)
        else:
            stream.root.fixed = True
            stream = flow.start(block.out_channels, fixed=True)
    return flow.groups()


@dataclass(slots=True, eq=False)
class _Axis:
    """The channels of one tensor; tensors with the same root share them."""

    place: int
    channels: int
    fixed: bool
    unit: int = 1
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    parent: _Axis | None = None

    @property
    def root(self) -> _Axis:
        axis = self
        while axis.parent is not None:
            axis = axis.parent
        return axis

    def join(self, other: _Axis) -> None:
        if self.root is other.root:
            return
        # The earlier one stays the root, so that groups are ordered and named by the first appearance of their
        # channels.
        root, merged = sorted((self.root, other.root), key=lambda axis: axis.place)
        root.fixed |= merged.fixed
        root.unit = math.lcm(root.unit, merged.unit)
        root.rows += merged.rows
        root.columns += merged.columns
        merged.parent = root


class _Flow:
    """The axes found so far."""

    def __init__(self) -> None:
        self.axes: list[_Axis] = []

    def start(self, channels: int, *, fixed: bool = False) -> _Axis:
        self.axes.append(_Axis(len(self.axes), channels, fixed))
        return self.axes[-1]

    def groups(self) -> tuple[ChannelGroup, ...]:
        free = (axis for axis in self.axes if axis.parent is None and not axis.fixed)
        return tuple(
            ChannelGroup(
                axis.rows[0].removesuffix(".weight"), axis.channels, axis.unit, tuple(axis.rows), tuple(axis.columns)
            )
            for axis in free
        )

    def through(self, prefix: str, layers: tuple[Layer, ...], stream: _Axis) -> _Axis:
        """The output of a block with input `stream`."""
        made = {INPUT: stream}
        for layer in layers:
            if unknown := [name for name in layer.reads if name not in made]:
                raise ValueError(
                    f"{prefix}{layer.name} reads {unknown[0]!r}, which is not an earlier layer: correct its `reads`"
                )
            inputs = [made[name] for name in layer.reads] or [stream]
            stream = made[layer.name] = self._apply(f"{prefix}{layer.name}", layer, inputs)
        return stream

    def _apply(self, name: str, layer: Layer, inputs: list[_Axis]) -> _Axis:
        if layer.op not in _CHANNELWISE | {"conv", "batch_norm", "linear", "add"}:
            # A shuffle or a concatenation moves channels; an unknown operation may.
            for axis in inputs:
                axis.root.fixed = True
            return self.start(layer.output.channels, fixed=True)
        if wrong := [axis.channels for axis in inputs if axis.channels != layer.input.channels]:
            raise ValueError(
                f"{name} has {layer.input.channels} input channels, but reads a tensor of {wrong[0]}: correct its "
                "`reads`"
            )
        x = inputs[0]
        match layer.op:
            case "conv" if layer.groups == 1:
                return self._dense(name, layer, x)
            case "conv":
                return self._grouped(name, layer, x)
            case "linear":
                x.root.columns.append(f"{name}.weight")
                return self.start(layer.output.channels, fixed=True)
            case "batch_norm":
                x.root.rows += (f"{name}.{leaf}" for leaf in _NORM)
            case "add":
                for other in inputs[1:]:
                    x.join(other)
        return x

    def _dense(self, name: str, layer: Layer, x: _Axis) -> _Axis:
        x.root.columns.append(f"{name}.weight")
        out = self.start(layer.output.channels)
        out.rows.append(f"{name}.weight")
        return out

    def _grouped(self, name: str, layer: Layer, x: _Axis) -> _Axis:
        """Whole groups move, from input to output; a depthwise convolution has groups of one channel."""
        unit = layer.input.channels // layer.groups
        if layer.output.channels != layer.input.channels:
            x.root.fixed = True
            return self.start(layer.output.channels, fixed=True)
        x.root.unit = math.lcm(x.root.unit, unit)
        x.root.rows.append(f"{name}.weight")
        return x
