"""The networks that a sweep may find, as a lattice: an axis for each item of a configuration. Torch-free."""

from __future__ import annotations

from math import prod
from random import Random
from typing import Any, Final

from paretofit.search.methods.method import Candidate
from paretofit.search.spec import ResolvedSpec

Place = tuple[int, ...]
"""A position on each axis, counted from its smallest value."""

_STEPS: Final = 2000


class Space:
    """Every combination of the values that a specification's candidates have; costs grow along every axis."""

    def __init__(self, spec: ResolvedSpec) -> None:
        self._spec = spec
        listed = spec.candidates()
        self.axes: dict[str, list[Any]] = {
            name: sorted({candidate.config[name] for candidate in listed}) for name in listed[0].config
        }
        self._candidates = {self.place(candidate.config): candidate for candidate in listed}
        self._only_listed = bool(spec.latencies)
        self.size = len(listed) if self._only_listed else prod(map(len, self.axes.values()))
        """Networks, whether they meet the constraints or not: where latencies count, those whose latency is known."""
        self.listed = len(self._candidates) == self.size
        """Whether the specification's candidates are all of them."""

    def place(self, config: dict[str, Any]) -> Place:
        """Where the network of a configuration is."""
        return tuple(values.index(config[name]) for name, values in self.axes.items())

    def candidate(self, place: Place) -> Candidate:
        """The network at a place."""
        if place not in self._candidates:
            config = {name: values[at] for (name, values), at in zip(self.axes.items(), place, strict=True)}
            self._candidates[place] = self._spec.candidate(config)
        return self._candidates[place]

    def free(self, place: Place, taken: set[Place], random: Random) -> Place | None:
        """This place if it is feasible and not taken, else one that a walk from it finds: towards smaller networks
        while they are infeasible, then anywhere. Where only some are known, the nearest of those. None if it finds
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
