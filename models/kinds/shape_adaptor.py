"""The shape adaptor, a resizing layer of any size: Liu et al., Shape Adaptor, ECCV 2020 (arXiv 2008.00892), section
3.1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from paretofit.models.architecture import Block, register
from paretofit.models.kinds.basic import Activation, activations
from paretofit.models.trace import Layer, Shape, Size, add, resized


@register
@dataclass(frozen=True, slots=True)
class Chain(Block):
    """Blocks in sequence."""

    kind: ClassVar[str] = "chain"
    module: ClassVar[str] = "paretofit.models.layers.shape_adaptor:Chain"

    in_channels: int
    out_channels: int
    blocks: tuple[Block, ...]

    def layers(self, size: Size) -> tuple[Layer, ...]:
        if not self.blocks:
            raise ValueError("a chain needs at least one block")
        found: list[Layer] = []
        channels = self.in_channels
        for i, block in enumerate(self.blocks):
            if block.in_channels != channels:
                raise ValueError(f"blocks[{i}].in_channels must be {channels}, not {block.in_channels}")
            found += _within(f"{i}.", block.layers(size))
            channels, size = block.out_channels, found[-1].output.size
        if channels != self.out_channels:
            raise ValueError(f"the last block has {channels} output channels, not {self.out_channels}")
        return tuple(found)


@register
@dataclass(frozen=True, slots=True)
class ShapeAdaptor(Block):
    """(1 - blend) x `down` + blend x `keep` of the input, both resized to height x width, bilinear with aligned
    corners; twice that if `residual`. Then the activation.

    `down` halves the sides, `keep` keeps them; without `keep` the input itself is used. At a blend of 0 or 1 only one
    branch exists. The output has the same size for every input.
    """

    kind: ClassVar[str] = "shape_adaptor"
    module: ClassVar[str] = "paretofit.models.layers.shape_adaptor:ShapeAdaptor"

    in_channels: int
    out_channels: int
    height: int
    width: int
    blend: float
    residual: bool
    activation: Activation
    down: Block
    keep: Block | None

    @property
    def size(self) -> Size:
        """Height and width of the output."""
        return self.height, self.width

    def layers(self, size: Size) -> tuple[Layer, ...]:
        self._check()
        x = Shape(self.in_channels, *size)
        kept = self._kept(x) if self.blend > 0 else ()
        if self.blend == 1:
            # The input itself, at its own size, is not a layer, but it is named.
            made = kept or (resized("resize_keep", x, size),)
            return (*made, *activations("act", made[-1].output, self.activation))
        beside = (kept[-1].output if kept else x).elements if self.blend > 0 else 0
        again = 0 if kept or not self.blend else x.elements
        first, *rest = _within("down.", self.down.layers(size))
        made = (
            replace(first, held=first.held + beside - again),
            *(replace(layer, held=layer.held + beside) for layer in rest),
        )
        if made[-1].output.size != self.size:
            made = (*made, resized("resize_down", made[-1].output, self.size, held=beside))
        out = made[-1].output
        blended = (add("add", out, kept[-1].output if kept else x),) if self.blend > 0 else ()
        return (*kept, *made, *blended, *activations("act", out, self.activation))

    def _kept(self, x: Shape) -> tuple[Layer, ...]:
        """The resized branch that keeps its size; None if it is the unchanged input."""
        again = x.elements if self.blend < 1 else 0
        made: tuple[Layer, ...] = ()
        if self.keep is not None:
            first, *rest = _within("keep.", self.keep.layers(x.size))
            made = (first, *(replace(layer, held=layer.held + again) for layer in rest))
        out = made[-1].output if made else x
        if out.size != self.size:
            made = (*made, resized("resize_keep", out, self.size, held=again if made else 0))
        return made

    def _check(self) -> None:
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend must be from 0 to 1, not {self.blend}")
        if min(self.size) < 1:
            raise ValueError(f"height and width must be at least 1 pixel, not {self.height} and {self.width}")
        for name, branch in (("down", self.down), ("keep", self.keep)):
            into, out = (self.in_channels,) * 2 if branch is None else (branch.in_channels, branch.out_channels)
            if (into, out) != (self.in_channels, self.out_channels):
                raise ValueError(
                    f"{name} must have {self.in_channels} input and {self.out_channels} output channels, not "
                    f"{into} and {out}"
                )


def _within(prefix: str, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    return tuple(replace(layer, name=f"{prefix}{layer.name}") for layer in layers)
