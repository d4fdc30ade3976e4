"""Positions of shape adaptors in a family's network: Liu et al., Shape Adaptor, ECCV 2020 (arXiv 2008.00892), appendix.

A network's units are its convolutions and blocks, counted from 0, without pools, batch norms and the classifier. N
adaptors are spread over L places as floor(i L / N), which gives every published position: L is one less than the units,
because the last has none; for compression, it is the number of units that do not resize.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from paretofit.models.architecture import Architecture, Block
from paretofit.models.kinds.basic import Activation, Classifier, Conv, Norm
from paretofit.models.kinds.inverted import InvertedResidual
from paretofit.models.kinds.pooling import MaxPool
from paretofit.models.kinds.preactivation import PreactivationBasic
from paretofit.models.kinds.residual import ResidualBasic, ResidualBottleneck
from paretofit.models.kinds.separable import Separable
from paretofit.models.kinds.shape_adaptor import Chain, ShapeAdaptor
from paretofit.models.kinds.shuffle import ShuffleUnit

Placement = Literal["replace", "add", "resizing"]
"""Placement of adaptors: in place of all resizing; in addition to it, where nothing resizes; wherever the network
resizes."""

_Unit = Conv | Separable | InvertedResidual | ResidualBasic | ResidualBottleneck | PreactivationBasic | ShuffleUnit
_Residual = ResidualBasic | ResidualBottleneck | PreactivationBasic
_UNPLANNED: Final = 1
"""Pixels of an adaptor whose size is not planned yet."""


def adapted(network: Architecture, count: int, placement: Placement = "replace") -> Architecture:
    """A human-designed network with `count` adaptors (`resizing`: the number of its layers that resize), which keep all
    trainable layers; `paretofit.models.families.shapes` plans their sizes.

    Raises ValueError for other kinds of blocks, and for more adaptors than there are places.
    """
    most = places(network, placement)
    if not 1 <= count <= most:
        raise ValueError(
            f"adaptors: {network.family} has places for 1 to {most} ({placement}), not {count}: use at most {most}"
        )
    where = _places(network, placement)
    chosen = {where[place] for place in spread(len(where), count)}
    residual = any(isinstance(block, _Residual) for block in network.blocks)
    blocks: list[Block] = []
    for i, block in enumerate(network.blocks):
        if placement == "resizing" and i in chosen:
            blocks += _resizing(block)
        elif placement == "replace" and isinstance(block, MaxPool):
            continue
        else:
            plain = replace(block, stride=1) if placement == "replace" and isinstance(block, _Unit) else block
            blocks += _followed(plain, residual=residual) if i in chosen else [plain]
    return replace(network, blocks=tuple(blocks))


def places(network: Architecture, placement: Placement) -> int:
    """Number of places for adaptors in a network. Raises ValueError for other kinds of blocks."""
    for block in network.blocks:
        if not isinstance(block, _Unit | MaxPool | Norm | Classifier):
            raise ValueError(
                f"families: {network.family} has no places for shape adaptors, because its blocks are "
                f"{block.kind}: choose another family"
            )
    return len(_places(network, placement))


def spread(places: int, count: int) -> tuple[int, ...]:
    """`count` places at equal distances, beginning with the first."""
    return tuple(i * places // count for i in range(count))


def _places(network: Architecture, placement: Placement) -> list[int]:
    """The blocks that can have an adaptor."""
    blocks = network.blocks
    resizing = [i for i, block in enumerate(blocks) if isinstance(block, _Unit | MaxPool) and block.stride > 1]
    if placement == "resizing":
        return resizing
    units = [i for i, block in enumerate(blocks) if isinstance(block, _Unit)][:-1]
    if placement == "replace":
        return units
    # A unit and the pool after it both resize.
    pooled = {i - 1 for i in resizing if isinstance(blocks[i], MaxPool)}
    return [i for i in units if i not in resizing and i not in pooled]


def _followed(block: Block, *, residual: bool) -> list[Block]:
    """A block of stride 1 and its adaptor, which replaces the addition if there is one. `residual`: in a network whose
    maps are halved by 1x1 convolutions."""
    match block:
        case ResidualBasic() | ResidualBottleneck() | PreactivationBasic():
            return _joined(block)
        case InvertedResidual():
            # The operands of an addition would have different sizes.
            return [replace(block, residual=False), _pooled(block.out_channels)]
        case Conv() if residual:
            down = replace(block, kernel=1, stride=2, groups=1)
            return [_adaptor(down, block)]
        case _:
            return [block, _pooled(block.out_channels)]


def _resizing(block: Block) -> list[Block]:
    """Converts a resizing block to an adaptor that computes the same at a blend of 0 (except for the addition of a
    residual, and in ShuffleNet's units)."""
    match block:
        case ResidualBasic() | ResidualBottleneck() | PreactivationBasic():
            return _joined(replace(block, stride=1))
        case MaxPool():
            return [_adaptor(block, None)]
        case Conv() | Separable() | InvertedResidual() | ShuffleUnit():
            # Every second pixel of the output at stride 1.
            plain = replace(block, stride=1)
            return [plain, _pooled(block.out_channels, kernel=1)]
        case _:
            raise ValueError(f"{block.kind} does not resize: choose another placement")


def _joined(block: _Residual) -> list[Block]:
    """A residual block of stride 1 whose sum is an adaptor of a halved shortcut and its body."""
    into, mid, out = block.in_channels, block.mid_channels, block.out_channels
    body: tuple[Block, ...]
    match block:
        case ResidualBasic():
            body = (_conv(into, mid, 3, "relu"), _conv(mid, out, 3, "none"))
        case ResidualBottleneck():
            spatial = Conv(mid, mid, 3, 1, block.groups, norm=True, activation="relu")
            body = (_conv(into, mid, 1, "relu"), spatial, _conv(mid, out, 1, "none"))
        case PreactivationBasic():
            body = (_conv(into, mid, 3, "relu"), Conv(mid, out, 3, 1, 1, norm=False, activation="none"))
            down = Conv(into, out, 1, 2, 1, norm=False, activation="none")
            return [Norm(into, into, "relu"), _adaptor(down, Chain(into, out, body), residual=True)]
    down = Conv(into, out, 1, 2, 1, norm=True, activation="none")
    return [_adaptor(down, Chain(into, out, body), residual=True, activation="relu")]


def _conv(into: int, out: int, kernel: int, activation: Activation) -> Conv:
    return Conv(into, out, kernel, 1, 1, norm=True, activation=activation)


def _pooled(channels: int, kernel: int = 2) -> ShapeAdaptor:
    """Adaptor of the map itself and its pool of stride 2."""
    return _adaptor(MaxPool(channels, channels, kernel, 2), None)


def _adaptor(
    down: Block, keep: Block | None, *, residual: bool = False, activation: Activation = "none"
) -> ShapeAdaptor:
    side = _UNPLANNED
    return ShapeAdaptor(down.in_channels, down.out_channels, side, side, 0.5, residual, activation, down, keep)
