"""The front as an SVG in the page, shown before scripts load or without them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paretofit.api.pages.quantities import short

SIDE: Final = 1000
"""Side of the square that the plot is drawn in, which the browser stretches; the origin is the upper left corner."""
_MARGIN: Final = 0.05
_HEADROOM: Final = 0.15
_TICKS: Final = 6
_STEPS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of an axis: its position in percent, and its label."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The range of an axis, `least` to `most`; logarithms for costs."""

    least: float
    most: float
    ticks: list[Tick]


@dataclass(frozen=True, slots=True)
class SvgChart:
    """Accuracy over the logarithm of a cost as paths of SVG: points are lines without length, which round caps make
    dots; `line` is the front's stairs. `majority` is the place of the majority class's accuracy in percent from the
    top, None if it is not between the least and the greatest that are shown."""

    infeasible: str
    dominated: str
    baselines: str
    front: str
    line: str
    majority: float | None
    x: Axis
    y: Axis


def draw(chart: Mapping[str, Any]) -> SvgChart | None:
    """Draw the data of a chart (`fronts.Drawn.chart`); None if it has no points."""
    groups = {name: _pairs(chart[name]) for name in ("infeasible", "dominated", "baselines", "front")}
    every = [pair for pairs in groups.values() for pair in pairs]
    if not every:
        return None
    # A bound that no point meets must be visible, however far it is.
    missed = [] if chart["front"] or chart["bound"] is None else [math.log10(chart["bound"])]
    left, right = _range([*missed, *(x for x, _ in every)])
    # Room at the top for the name of the selected point.
    bottom, top = _range([y for _, y in every], above=_HEADROOM)
    across, up = SIDE / (right - left), SIDE / (top - bottom)
    places = {
        name: [(round((x - left) * across), round((top - y) * up)) for x, y in pairs] for name, pairs in groups.items()
    }
    majority = chart["majority"]
    costs, accuracies = _costs(10**left, 10**right), [y for y in _even(bottom, top) if 0 <= y <= 1]
    return SvgChart(
        infeasible=_dots(places["infeasible"]),
        dominated=_dots(places["dominated"]),
        baselines=_dots(places["baselines"]),
        front=_dots(places["front"]),
        line=_stairs(places["front"]),
        majority=_percent((top - majority) * up) if majority is not None and bottom <= majority <= top else None,
        x=Axis(left, right, [Tick(_percent((math.log10(cost) - left) * across), short(cost)) for cost in costs]),
        y=Axis(bottom, top, [Tick(_percent((top - y) * up), f"{100 * y:g}%") for y in accuracies]),
    )


def _range(values: Sequence[float], above: float = _MARGIN) -> tuple[float, float]:
    extent = max(values) - min(values) or 1.0
    return min(values) - _MARGIN * extent, max(values) + above * extent


def _percent(place: float) -> float:
    return round(100 * place / SIDE, 2)


def _pairs(rows: Iterable[Sequence[Any]]) -> list[tuple[float, float]]:
    # Zero has no logarithm.
    return [(math.log10(row[2]), row[3]) for row in rows if row[2] > 0]


def _dots(places: Iterable[tuple[int, int]]) -> str:
    return "".join(f"M{x} {y}h0" for x, y in dict.fromkeys(places))


def _stairs(places: Sequence[tuple[int, int]]) -> str:
    if not places:
        return ""
    (x, y), *others = places
    return f"M{x} {y}" + "".join(f"H{x}V{y}" for x, y in others)


def _costs(least: float, most: float) -> list[float]:
    """Few round values between two costs: decades, with halves and fifths of them, or even steps."""
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)))
    for steps in ((1,), (1, 3), _STEPS):
        values = [step * 10.0**decade for decade in decades for step in steps]
        shown = [value for value in values if least <= value <= most]
        if 3 <= len(shown) <= _TICKS:
            return shown
    return _even(least, most) if most < 10 * least else [10.0**decade for decade in decades if least <= 10.0**decade]


def _even(least: float, most: float) -> list[float]:
    """The multiples of a round step between two values, at most `_TICKS` of them."""
    scale = 10.0 ** math.floor(math.log10((most - least) / _TICKS))
    step = next(step * scale for step in (*_STEPS, 10) if (most - least) / (step * scale) < _TICKS)
    first, last = math.ceil(least / step), math.floor(most / step)
    return [round(number * step, 12) for number in range(first, last + 1)]
