"""Medians of interleaved runs."""

from __future__ import annotations

import time
from functools import partial

import pytest

from paretofit.search.latency.clock import RUNS, timed


def test_each_run_gets_median_and_percentile() -> None:
    fast, slow = timed([partial(time.sleep, 0.001), partial(time.sleep, 0.003)], turns=4)
    assert 1 <= fast.median_ms <= fast.p95_ms
    assert 3 <= slow.median_ms <= slow.p95_ms
    assert fast.median_ms < slow.median_ms
    assert fast.runs == slow.runs == 4 * RUNS


def test_runs_are_interleaved() -> None:
    order: list[str] = []
    timed([partial(order.append, "a"), partial(order.append, "b")], turns=2)
    turns = "".join(order)[-4 * (RUNS + 1) :]
    assert turns == ("a" * (RUNS + 1) + "b" * (RUNS + 1)) * 2


def test_measurement_can_be_stopped_between_runs() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        timed([lambda: None], stop)
