"""The networks of a supernet: their widths, as a lattice, and the order of measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from random import Random
from typing import Any, Final

from paretofit.models.architecture import Architecture
from paretofit.models.families.scaling import Width
from paretofit.search.contracts.params import Candidate, Config
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.budget import evenly


def width_of(config: Config) -> Width:
    """The item `width`, or the items `width_1`, `width_2`, ..., one per stage."""
    if "width" in config:
        return float(config["width"])
    return tuple(float(value) for name, value in config.items() if name.startswith("width_"))


def configs(
    architecture: Callable[[Width], Architecture], grid: Sequence[float], stages: int | None
) -> list[dict[str, float]]:
    """Configurations of the distinct networks with equally wide stages.

    If several widths of `grid` give the same network (with `stages`: the same stage), the largest is used, so that
    every combination of stage widths is another network.
    """
    widest = {architecture(width): width for width in grid}
    if stages is None:
        return [{"width": width} for width in widest.values()]

    def of_stage(stage: int) -> dict[float, float]:
        def alone(width: float) -> Architecture:
            return architecture(tuple(width if i == stage else grid[-1] for i in range(stages)))

        largest = {alone(width): width for width in grid}
        return {width: largest[alone(width)] for width in grid}

    canonical = [of_stage(stage) for stage in range(stages)]
    return [{f"width_{i}": of[width] for i, of in enumerate(canonical, start=1)} for width in widest.values()]


Place = tuple[int, ...]
"""A position on each axis, counted from its smallest value."""

_STEPS: Final = 2000


class Space:
    """Every combination of the values in a specification's candidates; costs grow along every axis."""

    def __init__(self, spec: ResolvedSpec) -> None:
        self._spec = spec
        listed = spec.candidates()
        self.axes: dict[str, list[Any]] = {
            name: sorted({candidate.config[name] for candidate in listed}) for name in listed[0].config
        }
        self._candidates = {self.place(candidate.config): candidate for candidate in listed}
        self._only_listed = bool(spec.latencies)
        self.size = len(listed) if self._only_listed else prod(map(len, self.axes.values()))
        """Networks, feasible or not; with latency constraints, those whose latency is known."""
        self.listed = len(self._candidates) == self.size
        """Whether the specification's candidates are all of them."""

    def place(self, config: dict[str, Any]) -> Place:
        """Place of the network of a configuration."""
        return tuple(values.index(config[name]) for name, values in self.axes.items())

    def candidate(self, place: Place) -> Candidate:
        """The network at a place."""
        if place not in self._candidates:
            config = {name: values[at] for (name, values), at in zip(self.axes.items(), place, strict=True)}
            self._candidates[place] = self._spec.candidate(config)
        return self._candidates[place]

    def free(self, place: Place, taken: set[Place], random: Random) -> Place | None:
        """This place if it is feasible and free, else one found by a walk from it: to smaller networks while
        infeasible, then in any direction. If only some networks are known, the nearest of those. None if it finds
        none."""
        if self._only_listed:
            left = [each for each in self._candidates if each not in taken and self._feasible(each)]
            return min(left, key=lambda each: (_distance(each, place), each), default=None)
        for _ in range(_STEPS):
            if not self._feasible(place):
                place = self._step(place, random, (-1,))
            elif place in taken:
                place = self._step(place, random, (-1, 1))
            else:
                return place
        return None

    def _feasible(self, place: Place) -> bool:
        return self._spec.meets(self.candidate(place))

    def _step(self, place: Place, random: Random, directions: tuple[int, ...]) -> Place:
        axis = random.choice([axis for axis, values in enumerate(self.axes.values()) if len(values) > 1])
        last = len(list(self.axes.values())[axis]) - 1
        there = min(max(place[axis] + random.choice(directions), 0), last)
        return (*place[:axis], there, *place[axis + 1 :])


def _distance(one: Place, other: Place) -> int:
    """Steps along the axes."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


AT_LIMIT: Final = 8
"""Candidates that are measured even at a limit, spread over the costs; they come first."""
GROUP_MACS: Final = 10**12
"""Multiply-accumulates of networks that are measured together: about a minute."""


def spread_first(candidates: list[Candidate]) -> list[Candidate]:
    """`AT_LIMIT` candidates evenly over the costs, then the others; both ordered by input size, because inputs are
    cached by size."""
    spread = evenly(candidates, AT_LIMIT)
    first = {candidate.key for candidate in spread}
    return by_size([*spread, *(candidate for candidate in candidates if candidate.key not in first)])


def by_size(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first `AT_LIMIT` ordered by input size, because inputs are cached by size, then the others likewise."""
    halves = candidates[:AT_LIMIT], candidates[AT_LIMIT:]
    return [candidate for half in halves for candidate in sorted(half, key=lambda candidate: candidate.input_size)]


def groups(candidates: Sequence[Candidate], images: int) -> list[list[Candidate]]:
    """Networks to measure together on a number of images: neighbors with one input size, limited in work, so that a
    stopped or resumed trial loses little. Networks that come first at a limit stay separate."""
    found: list[list[Candidate]] = []
    work = 0.0
    for at, candidate in enumerate(candidates):
        more = candidate.cost["macs"] * images
        last = found[-1] if found and at != AT_LIMIT else None
        if last and last[0].input_size == candidate.input_size and work + more <= GROUP_MACS:
            last.append(candidate)
            work += more
        else:
            found.append([candidate])
            work = more
    return found
