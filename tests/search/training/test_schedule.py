"""Learning rate schedules."""

from __future__ import annotations

import itertools
import math

import pytest

from paretofit.search.training.loop import cosine, step_decay, warmed_up


def test_cosine_falls_from_the_peak_to_zero() -> None:
    rates = [cosine(0.5, step, 100) for step in range(101)]
    assert rates[0] == 0.5
    assert rates[50] == pytest.approx(0.25)
    assert rates[25] == pytest.approx(0.25 * (1 + math.sqrt(0.5)))
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    assert cosine(0.5, 120, 100) == rates[100]


def test_linear_warmup_is_followed_by_decay_to_zero() -> None:
    rates = [warmed_up(0.5, step, 104, 4) for step in range(105)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates[4:] == [cosine(0.5, step, 100) for step in range(101)]
    assert [warmed_up(0.5, step, 100, 0) for step in range(100)] == [cosine(0.5, step, 100) for step in range(100)]


def test_step_schedule_falls_to_a_tenth_after_each_third() -> None:
    """As every 30 of 90 epochs in Qin et al., FD-MobileNet (arXiv 1802.03750)."""
    rates = [step_decay(0.1, epoch, 90) for epoch in range(90)]
    assert rates == pytest.approx([0.1] * 30 + [0.01] * 30 + [0.001] * 30)
    assert [warmed_up(0.1, step, 95, 5, "thirds") for step in range(5, 95)] == rates
