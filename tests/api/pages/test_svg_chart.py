"""The static chart on the page of a search."""

from __future__ import annotations

import re
from typing import Any

import pytest

from paretofit.api.pages.svg_chart import SIDE, SvgChart, draw


def chart(*front: tuple[float, float], **extra: Any) -> dict[str, Any]:
    """Chart data in the format of `fronts.Drawn.chart`."""
    rows = [[str(number), str(number), *point, None] for number, point in enumerate(front)]
    return {"front": rows, "baselines": [], "dominated": [], "infeasible": [], "bound": None, "majority": None, **extra}


def draw_example(**extra: Any) -> SvgChart:
    drawing = draw(chart((1e5, 0.5), (1e6, 0.7), (1e7, 0.9), **extra))
    assert drawing is not None
    return drawing


def test_points_are_dots_and_the_front_is_a_step_line() -> None:
    drawing = draw_example(dominated=[["d", "d", 1e6, 0.6, None]])
    assert drawing.front == "M45 958h0M500 542h0M955 125h0"
    assert drawing.line == "M45 958H500V542H955V125"
    assert drawing.dominated == "M500 750h0"
    assert drawing.baselines == ""


def test_coinciding_points_are_one_dot() -> None:
    assert draw_example(dominated=[["d", "d", 1e6, 0.6, None]] * 9).dominated.count("M") == 1


def test_unmet_bound_is_within_the_chart() -> None:
    missed = {"infeasible": [["m", "m", 1e6, 0.6, None], ["n", "n", 1e7, 0.7, None]], "bound": 1e5}
    drawing = draw(chart(**missed))
    assert drawing is not None
    assert 4 < drawing.x.least < 5
    assert draw_example(**missed | {"bound": 1e3}).x.least > 4


def test_axes_have_round_values() -> None:
    drawing = draw_example()
    assert [(tick.text, tick.at) for tick in drawing.x.ticks] == [("100k", 4.55), ("1M", 50.0), ("10M", 95.45)]
    assert [tick.text for tick in drawing.y.ticks] == ["50%", "60%", "70%", "80%", "90%"]


@pytest.mark.parametrize(
    ("costs", "texts"),
    [
        ((1e5, 1e6), ["100k", "300k", "1M"]),
        ((4e6, 4.6e6), ["4M", "4.2M", "4.4M", "4.6M"]),
        ((1e3, 1e15), None),
        ((0.4, 3.2), ["0.5", "1", "2"]),
        ((5e6, 5e6), None),
    ],
)
def test_any_range_has_a_few_visible_ticks(costs: tuple[float, float], texts: list[str] | None) -> None:
    drawing = draw(chart((costs[0], 0.5), (costs[1], 0.5)))
    assert drawing is not None
    for ticks in (drawing.x.ticks, drawing.y.ticks):
        assert 2 <= len(ticks) <= 14
        assert all(0 <= tick.at <= 100 for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)
    assert texts is None or [tick.text for tick in drawing.x.ticks] == texts
    assert all(0 <= int(number) <= SIDE for number in re.findall(r"\d+", drawing.front.replace("h0", "")))


def test_accuracy_ticks_stay_between_0_and_100_percent() -> None:
    drawing = draw(chart((1e5, 0.97), (1e6, 1.0), (1e7, 0.0)))
    assert drawing is not None
    assert [tick.text for tick in drawing.y.ticks] == ["0%", "20%", "40%", "60%", "80%", "100%"]


def test_majority_class_is_a_line_if_it_is_within_the_axis() -> None:
    assert draw_example().majority is None
    assert draw_example(majority=0.1).majority is None
    # The axis runs from 0.48 to 0.96.
    assert draw_example(majority=0.6).majority == 75.0


def test_chart_without_points_is_not_drawn() -> None:
    assert draw(chart()) is None
    assert draw(chart((0, 0.5))) is None
