"""Spatially adaptive blocks: Xie et al., ECCV 2020 (arXiv 2003.08866). A mask selects the positions where features are
computed; elsewhere they are interpolated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Final, Literal

from paretofit.models.architecture import Architecture, Block, register
from paretofit.models.kinds.preactivation import PreactivationBasic
from paretofit.models.kinds.residual import ResidualBasic, ResidualBottleneck
from paretofit.models.trace import Layer, Shape, Size, conv

Draw = Literal["stochastic", "deterministic", "budget", "gated"]
Fill = Literal["rbf", "learned", "average", "zero"]

CONVOLUTIONS: Final[Mapping[type[Block], tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        ResidualBottleneck: (("reduce.conv",), ("spatial.conv", "expand.conv")),
        ResidualBasic: (("first.conv",), ("second.conv",)),
        PreactivationBasic: (("conv1",), ("conv2",)),
    }
)
"""The convolutions of each kind of residual block, by the mask that selects their positions."""
_FILLED_AFTER: Final[Mapping[type[Block], tuple[str, str]]] = MappingProxyType(
    {
        ResidualBottleneck: ("reduce.act", "expand.norm"),
        ResidualBasic: ("first.act", "second.norm"),
        PreactivationBasic: ("act2", "conv2"),
    }
)
"""The layers whose outputs are interpolated."""


@register
@dataclass(frozen=True, slots=True)
class Sampled(Block):
    """A residual block that computes its convolutions at the positions of masks: the last of `CONVOLUTIONS` share one,
    all of them if there is a single density. A mask's logits are a 3x3 convolution with bias on the block's input; the
    shortcut is computed everywhere.

    `densities`: share of computed positions of each mask, from which costs are counted; for a budget from its whole
    number of positions (or tiles). `draw`: `stochastic` samples each position with its probability, `deterministic`
    selects those of at least 0.5, `budget` selects as many per image as the density says, the best after sampling,
    `gated` selects those with a logit above 0 and multiplies by the logit. `fill`: values at the other positions, from
    a `window` in pixels. `grid`: stride of positions that are always computed, and first in a budget; 0: none. `tile`:
    side in pixels of squares that share a mask value, from the mean of their logits; also applies to budget and grid.
    `seed`, `place`: sampling is a function of them; `place` counts the network's sampled blocks.
    """

    kind: ClassVar[str] = "sampled"
    module: ClassVar[str] = "paretofit.models.layers.spatial_sampling:Sampled"

    in_channels: int
    out_channels: int
    body: Block
    densities: tuple[float, ...]
    draw: Draw
    fill: Fill
    window: int
    grid: int
    seed: int
    place: int
    tile: int = 1

    def layers(self, size: Size) -> tuple[Layer, ...]:
        self._check()
        x = Shape(self.in_channels, *size)
        body = [replace(layer, name=f"body.{layer.name}") for layer in self.body.layers(size)]
        masks: list[Layer] = []
        for i, stride in enumerate(self.strides):
            made = conv(f"masks.{i}.predict", x, 1, kernel=3, stride=stride, held=sum(m.output.elements for m in masks))
            masks.append(replace(made, params=made.params + 1))
        kept = sum(mask.output.elements for mask in masks)
        shares = [self._share(each, mask.output.size) for each, mask in zip(self.densities, masks, strict=True)]
        found = list(masks)
        for layer in body:
            mask = self._mask_of(layer.name)
            counted = layer.macs if mask is None else round(layer.macs * shares[mask])
            found.append(replace(layer, macs=counted, held=layer.held + kept))
            if self.fill != "zero" and (filled := self._fill_of(layer.name)) is not None:
                found.append(self._interpolation(filled, shares[min(filled, len(shares) - 1)], found[-1]))
        return tuple(found)

    @property
    def strides(self) -> tuple[int, ...]:
        """Size of each mask: the first of a bottleneck is as large as its input, the others as its output."""
        match self.body:
            case ResidualBottleneck(stride=stride):
                return 1, stride
            case ResidualBasic(stride=stride) | PreactivationBasic(stride=stride):
                return (stride,) * len(self.densities)
        return ()

    def dense_macs(self, size: Size) -> tuple[int, ...]:
        """Multiply-accumulates of each mask's convolutions when computed everywhere."""
        by_name = {layer.name: layer for layer in self.body.layers(size)}
        found = [0] * len(self.densities)
        for i, names in enumerate(CONVOLUTIONS[type(self.body)]):
            found[min(i, len(found) - 1)] += sum(by_name[name].macs for name in names)
        return tuple(found)

    def _share(self, density: float, size: Size) -> float:
        """Share of a mask of (height, width) that is computed."""
        return taken(density, size, self.tile) if self.draw == "budget" else density

    def _interpolation(self, mask: int, density: float, layer: Layer) -> Layer:
        """A weighted sum of the window at the positions that are not computed, over those that are."""
        macs = round(self.window**2 * layer.output.elements * density * (1 - density))
        params = {"rbf": 1, "learned": self.window**2}.get(self.fill, 0)
        return Layer(
            f"fills.{mask}", "interpolate", layer.output, layer.output, macs=macs, params=params, held=layer.held
        )

    def _mask_of(self, name: str) -> int | None:
        for i, names in enumerate(CONVOLUTIONS[type(self.body)]):
            if name.removeprefix("body.") in names:
                return min(i, len(self.densities) - 1)
        return None

    def _fill_of(self, name: str) -> int | None:
        after = _FILLED_AFTER[type(self.body)]
        plain = name.removeprefix("body.")
        return after.index(plain) if plain in after else None

    def _check(self) -> None:
        body = self.body
        if type(body) not in CONVOLUTIONS:
            names = ", ".join(kind.kind for kind in CONVOLUTIONS)
            raise ValueError(f"body must be a residual block ({names}), not {body.kind}")
        if (self.in_channels, self.out_channels) != (body.in_channels, body.out_channels):
            raise ValueError(f"channels must be the body's, {body.in_channels} -> {body.out_channels}")
        if not 1 <= len(self.densities) <= len(CONVOLUTIONS[type(body)]):
            raise ValueError(f"densities must be one or two, not {len(self.densities)}")
        if len(self.densities) == 1 and isinstance(body, ResidualBottleneck):
            raise ValueError("densities must be two: only basic blocks have one mask for both convolutions")
        for density in self.densities:
            if not 0 <= density <= 1:
                raise ValueError(f"densities must be from 0 to 1, not {density:g}")
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window must be an odd number of at least 3 pixels, not {self.window}")
        if self.grid < 0:
            raise ValueError(f"grid must be 0 (none) or a positive number of pixels, not {self.grid}")
        if self.tile < 1:
            raise ValueError(f"tile must be at least 1 pixel (1: each position separately), not {self.tile}")
        if self.draw == "gated" and self.fill != "zero":
            raise ValueError("fill must be zero with draw gated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a network's residual blocks are sampled: fields as in `Sampled`. `shared`: basic blocks have one mask for
    both convolutions."""

    density: float = 1.0
    draw: Draw = "stochastic"
    fill: Fill = "rbf"
    window: int = 7
    grid: int = 7
    tile: int = 1
    seed: int = 0
    shared: bool = False


def sampled(architecture: Architecture, policy: Policy) -> Architecture:
    """The network with masks on its residual blocks. Raises ValueError for a network without residual blocks."""
    blocks: list[Block] = []
    place = 0
    for block in architecture.blocks:
        if type(block) not in CONVOLUTIONS:
            blocks.append(block)
            continue
        masks = 1 if policy.shared and not isinstance(block, ResidualBottleneck) else 2
        blocks.append(
            Sampled(
                block.in_channels,
                block.out_channels,
                block,
                densities=(policy.density,) * masks,
                draw=policy.draw,
                fill=policy.fill,
                window=policy.window,
                grid=policy.grid,
                seed=policy.seed,
                place=place,
                tile=policy.tile,
            )
        )
        place += 1
    if not place:
        raise ValueError(f"{architecture.family} has no residual blocks to sample: choose a ResNet or a WideResNet")
    return replace(architecture, blocks=tuple(blocks))


def chosen(density: float, positions: int) -> int:
    """Number of positions in a fixed budget."""
    return min(positions, round(density * positions))


def taken(density: float, size: Size, tile: int) -> float:
    """Share of the tiles of a mask of (height, width) in a fixed budget."""
    tiles = math.prod(-(-side // tile) for side in size)
    return chosen(density, tiles) / max(1, tiles)


def sampled_blocks(architecture: Architecture) -> list[Sampled]:
    """The sampled blocks of a network, in order."""
    return [block for block in architecture.blocks if isinstance(block, Sampled)]


def densities(architecture: Architecture) -> tuple[float, ...]:
    """Density of every mask, in the order of the blocks."""
    return tuple(density for block in sampled_blocks(architecture) for density in block.densities)


def with_densities(architecture: Architecture, found: Sequence[float], draw: Draw | None = None) -> Architecture:
    """The network with other densities and, if given, another draw. Raises ValueError for a wrong number of
    densities."""
    if len(found) != len(densities(architecture)):
        raise ValueError(f"{len(densities(architecture))} densities are needed, but {len(found)} are given")
    left = iter(found)
    changed = tuple(
        replace(block, densities=tuple(next(left) for _ in block.densities), draw=draw or block.draw)
        if isinstance(block, Sampled)
        else block
        for block in architecture.blocks
    )
    return replace(architecture, blocks=changed)


def plain(architecture: Architecture) -> Architecture:
    """The network without masks."""
    return replace(
        architecture,
        blocks=tuple(block.body if isinstance(block, Sampled) else block for block in architecture.blocks),
    )


def deformable_offsets(architecture: Architecture, size: Size) -> int:
    """Multiply-accumulates of the offsets of the deformable convolutions in the published ResNet-101, a term of its
    published cost: a 3x3 convolution with 18 outputs on the block's input, at the size of the block's output, in every
    bottleneck from the second stage on. Networks here do not have them."""
    total, stage = 0, 0
    for block in plain(architecture).blocks:
        layers = block.layers(size)
        if isinstance(block, ResidualBottleneck):
            stage += block.projection
            if stage > 1:
                out = layers[-1].output
                total += 9 * 18 * block.in_channels * out.height * out.width
        size = layers[-1].output.size
    return total
