"""A front as a chart of text: accuracy over a cost on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from paretofit.api.schemas.points import Front
from paretofit.client.numbers import format_tick

WIDTH: Final = 64
HEIGHT: Final = 12
_GUTTER: Final = 7


def chart(front: Front, width: int = WIDTH, height: int = HEIGHT) -> str:
    """The points of a front, `o`, and the dominated ones, `.`; empty without points.

    Rows are accuracies on the selection split, columns costs. Of points in one cell, the front's is shown."""
    cost = front.x if front.device is None else f"{front.x}:{front.device}"
    shown = _places(front.points, cost, front.y)
    others = _places(front.dominated or (), cost, front.y)
    if not shown:
        return ""
    every = [*shown, *others]
    left, right = (pick(math.log10(x) for x, _ in every) for pick in (min, max))
    low, high = (pick(y for _, y in every) for pick in (min, max))
    low, high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    high = max(high, low + 0.05)
    cells = [[" "] * width for _ in range(height)]
    for mark, places in ((".", others), ("o", shown)):
        for x, y in places:
            column = round((math.log10(x) - left) / ((right - left) or 1.0) * (width - 1))
            line = round((high - y) / (high - low) * (height - 1))
            cells[line][column] = mark
    lines = []
    for index, row in enumerate(cells):
        value = high - (high - low) * index / (height - 1)
        label = f"{value:.0%}" if index in (0, height // 2, height - 1) else ""
        lines.append(f"{label:>{_GUTTER - 2}} |{''.join(row).rstrip()}")
    ends = format_tick(10**left), f"{format_tick(10**right)} {front.x}"
    lines.append(" " * (_GUTTER - 1) + "+" + "-" * width)
    lines.append(" " * _GUTTER + ends[0] + ends[1].rjust(width - len(ends[0])))
    return "\n".join(lines)


def _places(points: Sequence[object], cost: str, accuracy: str) -> list[tuple[float, float]]:
    found = []
    for point in points:
        metrics = getattr(point, "metrics", {})
        x, y = metrics.get(cost), metrics.get(accuracy)
        if x is not None and y is not None and x > 0:
            found.append((float(x), float(y)))
    return found
