"""How often somebody may ask: a bucket of tokens each, filled at a steady rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MOST: Final = 10_000
"""Buckets that are remembered; the one that was used longest ago is forgotten first."""


class Rate:
    """`per_second` requests on average (0: any number), `burst` of them at once. For one event loop."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = max(burst, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> float:
        """0 if `who` may ask now, otherwise the seconds until then."""
        if self._per_second == 0:
            return 0.0
        left = self._left(who)
        if left < 1:
            return (1 - left) / self._per_second
        self._keep(who, left - 1)
        return 0.0

    def _left(self, who: str) -> float:
        left, at = self._buckets.get(who, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - at) * self._per_second)

    def _keep(self, who: str, left: float) -> None:
        self._buckets[who] = (left, self._clock())
        self._buckets.move_to_end(who)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
