"""The drawing that comes with the page of a search."""

from __future__ import annotations

import re
from typing import Any

import pytest

from paretofit.api.pages.svg_chart import SIDE, SvgChart, draw


def chart(*front: tuple[float, float], **more: Any) -> dict[str, Any]:
    """As `fronts.Drawn.chart` gives it."""
    rows = [[str(number), str(number), *point, None] for number, point in enumerate(front)]
    return {"front": rows, "baselines": [], "dominated": [], "infeasible": [], "bound": None, "majority": None, **more}


def drawn(**given: Any) -> SvgChart:
    found = draw(chart((1e5, 0.5), (1e6, 0.7), (1e7, 0.9), **given))
    assert found is not None
    return found


def test_points_are_dots_in_a_square_and_the_front_is_their_stairs() -> None:
    found = drawn(dominated=[["d", "d", 1e6, 0.6, None]])
    assert found.front == "M45 958h0M500 542h0M955 125h0"
    assert found.line == "M45 958H500V542H955V125"
    assert found.dominated == "M500 750h0"
    assert found.baselines == ""


def test_points_at_one_place_are_one_dot() -> None:
    assert drawn(dominated=[["d", "d", 1e6, 0.6, None]] * 9).dominated.count("M") == 1


def test_a_bound_that_nothing_meets_is_in_the_drawing() -> None:
    missed = {"infeasible": [["m", "m", 1e6, 0.6, None], ["n", "n", 1e7, 0.7, None]], "bound": 1e5}
    found = draw(chart(**missed))
    assert found is not None
    assert 4 < found.x.least < 5
    assert drawn(**missed | {"bound": 1e3}).x.least > 4


def test_axes_have_round_values() -> None:
    found = drawn()
    assert [(tick.text, tick.at) for tick in found.x.ticks] == [("100k", 4.55), ("1M", 50.0), ("10M", 95.45)]
    assert [tick.text for tick in found.y.ticks] == ["50%", "60%", "70%", "80%", "90%"]


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
def test_any_range_has_a_few_ticks_in_sight(costs: tuple[float, float], texts: list[str] | None) -> None:
    found = draw(chart((costs[0], 0.5), (costs[1], 0.5)))
    assert found is not None
    for ticks in (found.x.ticks, found.y.ticks):
        assert 2 <= len(ticks) <= 14
        assert all(0 <= tick.at <= 100 for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)
    assert texts is None or [tick.text for tick in found.x.ticks] == texts
    assert all(0 <= int(number) <= SIDE for number in re.findall(r"\d+", found.front.replace("h0", "")))


def test_no_tick_is_beyond_what_can_be() -> None:
    found = draw(chart((1e5, 0.97), (1e6, 1.0), (1e7, 0.0)))
    assert found is not None
    assert [tick.text for tick in found.y.ticks] == ["0%", "20%", "40%", "60%", "80%", "100%"]


def test_the_majority_class_is_a_line_where_it_is_in_sight() -> None:
    assert drawn().majority is None
    assert drawn(majority=0.1).majority is None
    # Of the axis from 0.48 to 0.96.
    assert drawn(majority=0.6).majority == 75.0


def test_no_points_are_no_drawing() -> None:
    assert draw(chart()) is None
    assert draw(chart((0, 0.5))) is None
