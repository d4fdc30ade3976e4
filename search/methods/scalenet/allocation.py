"""Allocates channels to scales: from the importance of a seed network's channels to a structure within a budget.

Source: Li et al., ScaleNet, CVPR 2019 (arXiv 1904.09460), section 3.2. Each scale aggregation keeps its k = ceil(alpha
x planes) most important channels over all scales. One alpha applies to the whole network: the largest that meets the
budget. Pure; torch-free; the same on every machine: equal scores are ranked by scale, then by channel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from random import Random
from typing import Literal, Protocol

from paretofit.models.architecture import Architecture
from paretofit.models.families.structures import SCALES, Row, Structure
from paretofit.models.finite import NonFiniteError

Allocation = Literal["learned", "even", "single", "random", "global"]
Measure = Callable[[Architecture], float]
"""Cost of a network in a budget's metric: computed, or measured as its latency in milliseconds."""


class InfeasibleAllocationError(ValueError):
    """Even the smallest structure exceeds the bounds. `least` is its cost by metric."""

    def __init__(self, least: Mapping[str, float]) -> None:
        super().__init__(
            f"the smallest structure needs {', '.join(f'{name} {v:g}' for name, v in least.items())}; raise the budget"
        )
        self.least = dict(least)


@dataclass(frozen=True, slots=True)
class Site:
    """A scale aggregation of the seed network. `scores` are the importances of its channels by scale; `width`, for the
    second of a basic block, is the fixed number of channels of the residual."""

    planes: int
    scores: tuple[tuple[float, ...], ...]
    width: int | None = None

    def __post_init__(self) -> None:
        if len(self.scores) != len(SCALES) or not any(self.scores):
            raise ValueError(f"a site has the scores of {len(self.scores)} scales instead of {len(SCALES)}")
        if any(not math.isfinite(score) for scores in self.scores for score in scores):
            raise NonFiniteError(
                "the importance of a channel is not finite: training of the seed network diverged; lower learning_rate"
            )
        if self.width is not None and self.width > self.channels:
            raise ValueError(
                f"{self.width} channels are needed, but the seed network has {self.channels}: raise seed_ratio"
            )

    @property
    def channels(self) -> int:
        """Channels of all scales."""
        return sum(map(len, self.scores))

    def ranked(self) -> list[tuple[float, int, int]]:
        """(-score, scale's place, channel), the most important first."""
        return sorted((-score, at, i) for at, scores in enumerate(self.scores) for i, score in enumerate(scores))


class Ladder(Protocol):
    """A sequence of growing structures: each has at least as many channels everywhere as the one before."""

    def __len__(self) -> int:
        """Number of steps."""

    def __getitem__(self, step: int) -> Structure:
        """The structure of a step, from 0."""


@dataclass(frozen=True)
class ByAlpha:
    """Keeps the first k = ceil(alpha x planes) channels of each site's `orders`, which list the scale of each channel;
    one step for every alpha at which a k grows."""

    sites: Sequence[Site]
    orders: Sequence[Sequence[int]]

    @cached_property
    def alphas(self) -> tuple[Fraction, ...]:
        """The alpha of each step."""
        free = {
            (site.planes, len(order)) for site, order in zip(self.sites, self.orders, strict=True) if site.width is None
        }
        return tuple(sorted({Fraction(k, planes) for planes, most in free for k in range(1, most + 1)}))

    def __len__(self) -> int:
        return len(self.alphas)

    def __getitem__(self, step: int) -> Structure:
        alpha = self.alphas[step]
        return tuple(
            _row(order[: math.ceil(alpha * site.planes) if site.width is None else site.width])
            for site, order in zip(self.sites, self.orders, strict=True)
        )


@dataclass(frozen=True)
class Globally:
    """Keeps the most important channels of all sites together, at least one per site; one step for each further
    channel."""

    sites: Sequence[Site]

    @cached_property
    def _order(self) -> list[tuple[int, int]]:
        """(site, scale's place): the best of every site, then the others by score."""
        ranked = [site.ranked() for site in self.sites]
        free = [i for i, site in enumerate(self.sites) if site.width is None]
        others = sorted((score, i, at, channel) for i in free for score, at, channel in ranked[i][1:])
        return [*((i, ranked[i][0][1]) for i in free), *((i, at) for _, i, at, _ in others)]

    @cached_property
    def _fixed(self) -> dict[int, Row]:
        return {
            i: _row([at for _, at, _ in site.ranked()[: site.width]])
            for i, site in enumerate(self.sites)
            if site.width is not None
        }

    def __len__(self) -> int:
        return len(self._order) - (len(self.sites) - len(self._fixed)) + 1

    def __getitem__(self, step: int) -> Structure:
        kept: list[list[int]] = [[] for _ in self.sites]
        for i, at in self._order[: len(self.sites) - len(self._fixed) + step]:
            kept[i].append(at)
        return tuple(self._fixed.get(i) or _row(places) for i, places in enumerate(kept))


@dataclass(frozen=True, slots=True)
class Allocated:
    """A structure and its measurements by metric."""

    structure: Structure
    measured: dict[str, float]
    step: int


def ladder(allocation: Allocation, sites: Sequence[Site], *, seed: int = 0) -> Ladder:
    """The structures that an allocation chooses from.

    `learned` ranks by importance; `random` samples by `seed`; `even` gives each scale the same number; `single` gives
    all to the first scale, which is a ResNet; `global` ranks the channels of all sites together.
    """
    match allocation:
        case "learned":
            return ByAlpha(sites, [[at for _, at, _ in site.ranked()] for site in sites])
        case "random":
            random = Random(f"allocation:{seed}")
            return ByAlpha(sites, [random.sample(_places(site), site.channels) for site in sites])
        case "even":
            return ByAlpha(sites, [_in_turn(site) for site in sites])
        case "single":
            return ByAlpha(sites, [[0] * site.channels for site in sites])
        case "global":
            return Globally(sites)


def allocate(
    steps: Ladder,
    network: Callable[[Structure], Architecture],
    measures: Mapping[str, Measure],
    bounds: Mapping[str, float],
) -> Allocated:
    """The largest structure of a ladder whose `network` meets all bounds, by bisection.

    The result is measured once more, and smaller ones are tried until one holds, because measures such as latency are
    noisy. Raises InfeasibleAllocationError.
    """

    def measured(step: int) -> dict[str, float]:
        architecture = network(steps[step])
        return {name: measures[name](architecture) for name in bounds}

    def fits(found: Mapping[str, float]) -> bool:
        return all(found[name] <= bound for name, bound in bounds.items())

    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if fits(measured(middle)):
            low = middle
        else:
            high = middle - 1
    for step in range(low, -1, -1):
        found = measured(step)
        if fits(found):
            return Allocated(steps[step], found, step)
    raise InfeasibleAllocationError(found)


def _row(places: Sequence[int]) -> Row:
    counted = Counter(places)
    return tuple(counted[at] for at in range(len(SCALES)))


def _places(site: Site) -> list[int]:
    """The scale of each channel."""
    return [at for at, scores in enumerate(site.scores) for _ in scores]


def _in_turn(site: Site) -> list[int]:
    turns = sorted((i, at) for at, scores in enumerate(site.scores) for i in range(len(scores)))
    return [at for _, at in turns]
