"""Converts latency bounds in milliseconds to multiply-accumulates, for networks that cannot be measured yet.
Torch-free, pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.spec import ResolvedSpec

SMALLER: Final = (0.9, 0.75)
"""Shares of its multiply-accumulates at which a learned network is also reported under a latency bound, because its
latency is unknown until training ends and may exceed the bound."""


def macs_within(spec: ResolvedSpec, measured: Iterable[Candidate]) -> float:
    """The most multiply-accumulates with which a network is expected to meet every latency bound, estimated from the
    `measured` networks of its kind; infinite without a known bound."""
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
    """Multiply-accumulates at which the piecewise linear curve of (multiply-accumulates, milliseconds) reaches the
    bound; 0 if all points are above it.

    Beyond the largest network both grow in proportion; no network is assumed to be faster than a smaller one."""
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
