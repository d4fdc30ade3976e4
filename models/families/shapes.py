"""Sizes of a network's shape adaptors, and their costs: integers and real numbers on the host. Torch-free.

Source: Liu et al., Shape Adaptor, ECCV 2020 (arXiv 2008.00892). An adaptor's parameter is alpha; sigma = sigmoid(alpha)
is its blend, s = r1 + (r2 - r1) sigma its factor, between r1 and r2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Final

from paretofit.models.architecture import Architecture
from paretofit.models.kinds.shape_adaptor import ShapeAdaptor
from paretofit.models.trace import Size

LOW: Final = 0.5
"""r1: the factor of the halved branch."""
HIGH: Final = 1.0
"""r2: the factor of the branch that keeps its size."""
LEAST_SIDE: Final = 2
SLACK: Final = 0.25
"""Hysteresis in pixels: a side must exceed the next integer by this much before a planned size changes."""
_OFFSET: Final = 1e-4
_REACH: Final = 12.0
"""Alpha beyond which the factor no longer changes."""
_FINE: Final = 1e-4
_MOVED: Final = 6

Sizes = tuple[Size, ...]
"""Height and width of each adaptor's output, from the input on."""


class TooCostlyError(ValueError):
    """Even the smallest sizes exceed the bounds."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A size and a blend for each adaptor."""

    sizes: Sizes
    blends: tuple[float, ...]

    def written(self) -> str:
        """In one line, exactly: `25x25@0.417 19x19@0.5 ...`."""
        return " ".join(f"{h}x{w}@{blend!r}" for (h, w), blend in zip(self.sizes, self.blends, strict=True))

    @classmethod
    def from_line(cls, line: str) -> Shape:
        """The shape that `written` wrote. Raises ValueError."""
        sizes, blends = [], []
        for word in line.split():
            size, at, blend = word.partition("@")
            height, by, width = size.partition("x")
            if not (at and by and height.isdecimal() and width.isdecimal()):
                raise ValueError(f"shape: {word!r} is not a size and blend; write it as '25x25@0.417'")
            sizes.append((int(height), int(width)))
            blends.append(float(blend))
        return cls(tuple(sizes), tuple(blends))


def adaptors(network: Architecture) -> dict[int, ShapeAdaptor]:
    """Every shape adaptor by the index of its block."""
    return {i: block for i, block in enumerate(network.blocks) if isinstance(block, ShapeAdaptor)}


def shaped(network: Architecture, shape: Shape) -> Architecture:
    """The network with these sizes and blends. Raises ValueError for another number of adaptors."""
    found = adaptors(network)
    if len(found) != len(shape.sizes):
        raise ValueError(f"shape: {len(shape.sizes)} sizes are given, but the network has {len(found)} adaptors")
    blocks = list(network.blocks)
    for (i, block), (height, width), blend in zip(found.items(), shape.sizes, shape.blends, strict=True):
        blocks[i] = replace(block, height=height, width=width, blend=blend)
    return replace(network, blocks=tuple(blocks))


def shape(network: Architecture) -> Shape:
    """Sizes and blends of a network's adaptors."""
    found = adaptors(network).values()
    return Shape(tuple(each.size for each in found), tuple(each.blend for each in found))


def sigmoid(alpha: float) -> float:
    """Sigmoid of any number, without overflow."""
    return 1 / (1 + math.exp(-alpha)) if alpha >= 0 else 1 - 1 / (1 + math.exp(alpha))


def factor(alpha: float) -> float:
    """s, between `LOW` and `HIGH`."""
    return LOW + (HIGH - LOW) * sigmoid(alpha)


def blend(factor: float) -> float:
    """Sigma of a factor, from 0 to 1; a factor below `LOW` has that of `LOW`."""
    return min(1.0, max(0.0, (factor - LOW) / (HIGH - LOW)))


def initial_alpha(side: int, last: int, count: int) -> float:
    """Factor of each of `count` adaptors that together resize a side of the input to `last`, within the possible
    range."""
    if side * LOW**count > last:
        return math.log(_OFFSET)
    ratio = (last / side) ** (1 / count)
    if ratio >= HIGH:
        return -math.log(_OFFSET)
    return math.log(-(ratio - LOW) / (ratio - HIGH) + _OFFSET)


@dataclass(frozen=True)
class Rule:
    """Rule that computes sizes from factors, for a network with adaptors and one input size.

    Local type: each side is that of the preceding map times the factor, truncated (a factor within 1e-4 of 1 is 1).
    Global type (`in_all`): the side in the network without adaptors times all factors up to there, rounded. `limit`
    bounds the last map's shorter side, to which all factors shrink in one ratio.
    """

    network: Architecture
    size: Size
    in_all: bool = False
    limit: int | None = None

    @property
    def count(self) -> int:
        """Number of adaptors."""
        return len(adaptors(self.network))

    def sizes(self, alphas: Sequence[float], before: Sizes | None = None) -> Sizes:
        """Output sizes of the adaptors. A size planned `before` stays until its side is `SLACK` past the next pixel."""
        return self._sizes(self.factors(alphas), before, (0,) * len(alphas))

    def shape(self, alphas: Sequence[float]) -> Shape:
        """Sizes and blends, without earlier planned sizes."""
        return Shape(self.sizes(alphas), tuple(map(blend, self.factors(alphas))))

    def factors(self, alphas: Sequence[float]) -> tuple[float, ...]:
        """s of each adaptor, under the limit."""
        factors = [factor(alpha) for alpha in alphas]
        if self.limit is None:
            return tuple(factors)
        last = min(self.size) * math.prod(factors)
        ratio = min(1.0, (self.limit / last) ** (1 / len(factors)))
        return tuple(ratio * each for each in factors)

    def fitted(self, alphas: Sequence[float], fits: Callable[[Sizes], bool], *, grows: bool) -> Shape:
        """The shape of these alphas, all shifted by one number so that its sizes are the largest that fit, up to a
        pixel (without `grows`: only if they do not fit). Raises TooCostlyError."""
        if not grows and fits(self.sizes(alphas)):
            return self.shape(alphas)
        low, high = -_REACH - max(alphas), _REACH - min(alphas) if grows else 0.0

        def moved(by: float) -> list[float]:
            return [alpha + by for alpha in alphas]

        if not fits(self.sizes(moved(low))):
            raise TooCostlyError("the smallest sizes of the shape adaptors exceed the bounds: relax them")
        if fits(self.sizes(moved(high))):
            return self.shape(moved(high))
        while high - low > _FINE:
            middle = (low + high) / 2
            low, high = (middle, high) if fits(self.sizes(moved(middle))) else (low, middle)
        factors = self.factors(moved(low))
        return Shape(self._filled(factors, fits), tuple(map(blend, factors)))

    def _filled(self, factors: Sequence[float], fits: Callable[[Sizes], bool]) -> Sizes:
        """Sizes near these factors, each side up to a pixel larger or smaller (for the last `_MOVED` adaptors): the
        most expensive that fit."""
        rest = min(len(factors), _MOVED)
        still = (0,) * (len(factors) - rest)
        tried = {self._sizes(factors, None, (*still, *more)) for more in product((0, 1, -1), repeat=rest)}
        for sizes in sorted(tried, key=lambda sizes: (self.macs(sizes), sizes), reverse=True):
            if fits(sizes):
                return sizes
        raise TooCostlyError("no sizes near the feasible ones fit: relax the bounds")

    def macs(self, sizes: Sizes) -> int:
        """Multiply-accumulates with these sizes."""
        total, size, given = 0, self.size, iter(sizes)
        for i, block in enumerate(self.network.blocks):
            macs, out = self._passed(i, size)
            total += macs
            size = next(given) if isinstance(block, ShapeAdaptor) else out
        return total

    @cached_property
    def shares(self) -> tuple[tuple[float, ...], float]:
        """Multiply-accumulates where no adaptor resizes: of the layers up to the first adaptor, up to the second, ...,
        each to be multiplied by the squares of all factors before it; and of those that no size changes."""
        shares, fixed, size = [0.0], 0.0, self.size
        for block in self.network.blocks:
            layers = block.layers(size)
            for layer in layers:
                if layer.op == "linear":
                    fixed += layer.macs
                else:
                    shares[-1] += layer.macs
            if isinstance(block, ShapeAdaptor):
                shares.append(0.0)
            else:
                size = layers[-1].output.size
        return tuple(shares), fixed

    def _sizes(self, factors: Sequence[float], before: Sizes | None, more: Sequence[int]) -> Sizes:
        """`more`: pixels to add to the sides, at most up to the preceding map's."""
        found: list[Size] = []
        size = human = self.size
        overall = 1.0
        for i, block in enumerate(self.network.blocks):
            if not isinstance(block, ShapeAdaptor):
                size, human = (self._passed(i, each)[1] for each in (size, human))
                continue
            at = len(found)
            overall *= factors[at]
            own = HIGH if factors[at] >= self._keeps else factors[at]
            real = [side * overall + 0.5 for side in human] if self.in_all else [side * own for side in size]
            known = (None, None) if before is None else before[at]
            planned = [_side(exact, side) for exact, side in zip(real, known, strict=True)]
            height, width = (
                max(LEAST_SIDE, min(side + more[at], max(side, former)))
                for side, former in zip(planned, size, strict=True)
            )
            size = height, width
            found.append(size)
        return tuple(found)

    def _passed(self, i: int, size: Size) -> tuple[int, Size]:
        """A block's multiply-accumulates on a map of this size, and its output size."""
        if (i, size) not in self._known:
            layers = self.network.blocks[i].layers(size)
            self._known[i, size] = sum(layer.macs for layer in layers), layers[-1].output.size
        return self._known[i, size]

    @cached_property
    def _keeps(self) -> float:
        """The smallest factor that keeps a side, so that nothing is truncated if the last side is the input's. With a
        limit below that, every factor counts."""
        return HIGH - _OFFSET if self.limit is None or min(self.size) <= self.limit else HIGH

    @cached_property
    def _known(self) -> dict[tuple[int, Size], tuple[int, Size]]:
        return {}


def _side(exact: float, before: int | None) -> int:
    """The truncated pixels of a real side; earlier pixels stay while the side is within `SLACK` of them."""
    if before is not None and before - SLACK <= exact < before + 1 + SLACK:
        return max(LEAST_SIDE, before)
    return max(LEAST_SIDE, int(exact))
