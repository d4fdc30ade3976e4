"""Conversion of bounds in milliseconds to multiply-accumulates."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from paretofit.search.latency import curve, stage
from tests.search.latency.test_stage import NCNN, ORT, bounded, table

MEASURED = [(10.0, 2.0), (20.0, 3.0), (40.0, 7.0)]


@pytest.mark.parametrize(
    ("bound", "macs"), [(1.9, 0), (2, 10), (2.5, 15), (3, 20), (5, 30), (7, 40), (14, 80)], ids=lambda value: f"{value}"
)
def test_bound_is_interpolated_between_measurements(bound: float, macs: float) -> None:
    assert curve.at(MEASURED, bound) == macs
    assert curve.at(MEASURED[::-1], bound) == macs


def test_latency_curve_is_monotonic() -> None:
    # The second measurement was disturbed by other load on the machine.
    assert curve.at([(10, 2), (20, 5), (30, 4)], 4.5) == pytest.approx(10 + 10 * 2.5 / 3)
    assert curve.at([(10, 2), (20, 5), (30, 4)], 5) == 30


def test_all_known_bounds_are_applied(stripes: Path) -> None:
    spec = bounded(stripes, (ORT, 2.0), (NCNN, 1.0))
    listed = spec.candidates()
    assert curve.bounded(spec)
    assert curve.macs_within(spec, listed) == math.inf
    one = stage.with_tables(spec, [table(spec, ORT)])
    assert curve.macs_within(one, one.candidates()) == pytest.approx(2e6)
    both = stage.with_tables(spec, [table(spec, ORT), table(spec, NCNN)])
    assert curve.macs_within(both, both.candidates()) == pytest.approx(1e6)
    assert not curve.bounded(bounded(stripes))
