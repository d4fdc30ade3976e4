"""What a bound in milliseconds is in multiply-accumulates, for networks that nobody can measure yet. Torch-free,
pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.spec import ResolvedSpec

SMALLER: Final = (0.9, 0.75)
"""Where a latency is bounded, shares of its multiply-accumulates at which a learned network is reported too: what it
takes is known once it is there, and may be more than the bound."""


def macs_within(spec: ResolvedSpec, measured: Iterable[Candidate]) -> float:
    """The most multiply-accumulates with which a network is expected to meet every bound on a latency, by those of its
    kind that were `measured`; infinite where no bound is known."""
    most = math.inf
    listed = list(measured)
    for bound in spec.constraints:
        known = [(each.cost["macs"], each.cost[bound.key]) for each in listed if bound.key in each.cost]
        if bound.device is not None and known:
            most = min(most, at(known, bound.value))
    return most


def bounded(spec: ResolvedSpec) -> bool:
    """Whether a constraint is on a latency."""
    return any(bound.device is not None for bound in spec.constraints)


def at(measured: Sequence[tuple[float, float]], bound: float) -> float:
    """Of (multiply-accumulates, milliseconds): where the lines between them come to the bound, 0 if all are above it.
    Beyond the largest both grow in proportion; none is taken to be faster than a smaller one."""
    slower, before = 0.0, (0.0, 0.0)
    for macs, taken in sorted(measured):
        slower = max(slower, taken)
        if slower > bound:
            if before == (0.0, 0.0):
                return 0.0
            share = (bound - before[1]) / (slower - before[1])
            return before[0] + share * (macs - before[0])
        before = macs, slower
    return before[0] * bound / before[1]
