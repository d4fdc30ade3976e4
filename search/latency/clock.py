"""Latency of networks: medians and 95th percentiles of interleaved runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

TURNS: Final = 12
RUNS: Final = 5
"""Passes per turn; the first one after another network's turn is not counted."""
SECONDS: Final = 60.0
_LEAST_TURNS: Final = 3
_WARM_UP_SECONDS: Final = 0.05
_LEAST_WARM_UP: Final = 3

Run = Callable[[], object]
"""One pass of a batch; returns once the result is computed."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Latency of one network, over `runs` passes."""

    median_ms: float
    p95_ms: float
    runs: int


def timed(runs: Sequence[Run], between: Callable[[], None] = lambda: None, *, turns: int = TURNS) -> list[Timed]:
    """Warm up each network, then run them in turns, so that drift of the machine's speed affects all alike. `between`
    is called after each turn and may raise. Slow networks get fewer turns: none begins after SECONDS."""
    until = time.monotonic() + SECONDS
    for run in runs:
        _warm_up(run)
        between()
    milliseconds: list[list[float]] = [[] for _ in runs]
    for turn in range(turns):
        if turn >= _LEAST_TURNS and time.monotonic() > until:
            break
        for run, found in zip(runs, milliseconds, strict=True):
            run()
            for _ in range(RUNS):
                started = time.perf_counter()
                run()
                found.append(1000 * (time.perf_counter() - started))
            between()
    return [Timed(median(found), _percentile(found, 0.95), len(found)) for found in milliseconds]


def _warm_up(run: Run) -> None:
    until = time.perf_counter() + _WARM_UP_SECONDS
    done = 0
    while done < _LEAST_WARM_UP or time.perf_counter() < until:
        run()
        done += 1


def _percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]
