"""The Pareto front and its hypervolume. Pure Python: the API imports it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

Vector = tuple[float, ...]
_NOTHING = 1e-12
"""Tolerance for volumes that only rounding makes positive."""


def nondominated(
    points: Sequence[Mapping[str, float]],
    maximize: Sequence[str] = ("selection_top1",),
    minimize: Sequence[str] = ("macs",),
) -> list[int]:
    """Indices of the points that no other dominates, ascending.

    One point dominates another if it is no worse in every objective and better in one. Points that are equal in every
    objective are all kept or all left out. O(n log n) for two objectives, O(n * front) for more. Raises KeyError for a
    point without an objective, ValueError for a value that is not a number.
    """
    values = [_vector(point, maximize, minimize) for point in points]
    # In lexicographic order a point is dominated only by earlier ones. With two objectives the last kept point has the
    # smallest second value, so it is enough to compare with that one.
    order = sorted(range(len(values)), key=values.__getitem__)
    two = len(maximize) + len(minimize) == 2
    front: list[Vector] = []
    kept: list[int] = []
    for index in order:
        value = values[index]
        rivals = front[-1:] if two else front
        if any(rival != value and _covers(rival, value) for rival in rivals):
            continue
        front.append(value)
        kept.append(index)
    return sorted(kept)


def hypervolume(points: Sequence[Mapping[str, float]], *, macs: tuple[float, float], classes: int) -> float:
    """Normalized hypervolume in log10(MACs) x selection_top1, in [0, 1].

    `macs` are the smallest and the largest of all the search's candidates, independent of constraints, so that searches
    are comparable. The reference point is (1.1 x largest, 1 / classes), the ideal point (smallest, 1). Raises
    ValueError for `macs` that are not 0 < smallest <= largest, for fewer than two classes and for a point without
    positive MACs.
    """
    smallest, largest = macs
    if not 0 < smallest <= largest < math.inf:
        raise ValueError(f"macs must be 0 < smallest <= largest, not {macs}")
    if classes < 2:
        raise ValueError(f"classes must be at least 2, not {classes}")
    ideal = (math.log10(smallest), -1.0)
    reference = (math.log10(1.1 * largest), -1.0 / classes)
    values = [(max(math.log10(point["macs"]), ideal[0]), max(-point["selection_top1"], ideal[1])) for point in points]
    return volume(values, reference) / math.prod(r - i for r, i in zip(reference, ideal, strict=True))


def volume(values: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume between a reference point and the minimized `values`; values not below it in every coordinate are left
    out. By slicing along the last coordinate: O(n log n) in two dimensions, times n for each further one."""
    inside = sorted({tuple(v) for v in values if all(x < r for x, r in zip(v, reference, strict=True))})
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - inside[0][0]
    if len(reference) == 2:
        total, height = 0.0, reference[1]
        for x, y in inside:
            if y < height:
                total += (reference[0] - x) * (height - y)
                height = y
        return total
    inside.sort(key=lambda value: value[-1])
    tops = [value[-1] for value in inside[1:]] + [reference[-1]]
    return sum(
        (top - value[-1]) * volume([other[:-1] for other in inside[: index + 1]], reference[:-1])
        for index, (value, top) in enumerate(zip(inside, tops, strict=True))
        if top > value[-1]
    )


def preference(point: Mapping[str, float], key: str) -> tuple[float, float, str]:
    """Sort key of preferred points: highest accuracy, then fewest MACs, then key."""
    return -point["selection_top1"], point.get("macs", 0), key


def best_under(points: Sequence[tuple[str, Mapping[str, float]]], cost: str) -> list[tuple[float, int]]:
    """Lookup table of a cost, for points with their keys: ascending bounds, each with the index of the best point up to
    the next bound. Below the first bound there is none.

    Raises KeyError for a point without the cost or an accuracy.
    """
    table: list[tuple[float, int]] = []
    best: tuple[float, float, str] | None = None
    for bound, rank, index in sorted(
        (metrics[cost], preference(metrics, key), index) for index, (key, metrics) in enumerate(points)
    ):
        if best is None or rank < best:
            best = rank
            table.append((bound, index))
    return table


def by_volume(values: Sequence[Vector], reference: Sequence[float], *, most: int | None = None) -> list[int]:
    """Greedy selection of at most `most` of the minimized `values` by hypervolume; returns their indices.

    Each adds the most volume to those before it. Once none adds any, selection restarts among the rest, and values
    without volume come last. The first k dominate at least 1 - 1/e of what any k of the first front can. Lazy
    evaluation is exact, because gains never grow (Nemhauser et al., 1978; Minoux, 1978).
    """
    order: list[int] = []
    left = [index for index, value in enumerate(values) if volume([value], reference) > 0]
    most = len(values) if most is None else most
    while left and len(order) < most:
        chosen: list[Vector] = []
        covered = 0.0
        # Largest gain first; of equal ones the first index. Each gain is stored with the number of values selected when
        # it was computed.
        heap = [(-volume([values[index]], reference), index, 0) for index in left]
        heapq.heapify(heap)
        left = []
        while heap and len(order) < most:
            gain, index, asof = heapq.heappop(heap)
            if asof < len(chosen):
                grown = volume([*chosen, values[index]], reference)
                gain = min(0.0, covered - grown)
                if gain < -_NOTHING * grown:
                    heapq.heappush(heap, (gain, index, len(chosen)))
                else:
                    left.append(index)
                continue
            chosen.append(values[index])
            covered -= gain
            order.append(index)
        left.sort()
    listed = set(order)
    return [*order, *(index for index in range(len(values)) if index not in listed)][:most]


def _vector(point: Mapping[str, float], maximize: Sequence[str], minimize: Sequence[str]) -> Vector:
    value = (*(-point[name] for name in maximize), *(point[name] for name in minimize))
    if any(math.isnan(x) for x in value):
        raise ValueError(f"an objective is not a number in {dict(point)}")
    return value


def _covers(left: Vector, right: Vector) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True))
