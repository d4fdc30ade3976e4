"""Shares epochs among the trainings of a search, and selects networks evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def equal_share(planned: int, trainings: int, most: int | None, number: int) -> int:
    """Epochs of training `number`, counted from 0: `planned`, or an equal share of `most` if that is less; the first
    trainings get the remainder."""
    if most is None or most >= trainings * planned:
        return planned
    each, over = divmod(most, trainings)
    return each + (number < over)


def proportional(first: int, each: int, others: int, most: int | None) -> tuple[int, int, int]:
    """Epochs of a first training, of each of those that follow it, and how many follow: as planned, or scaled down to
    `most` with at least one epoch each. Trainings without an epoch are left out."""
    total = first + each * others
    if most is None or total <= most:
        return first, each, others
    if not (others := min(others, most - 1)):
        return most, 0, 0
    each = max(1, min(each * most // total, (most - 1) // others))
    return min(first, most - each * others), each, others


def evenly(ranked: Sequence[T], count: int) -> list[T]:
    """`count` items at equal distances, including the first and the last; all if there are no more."""
    count = min(count, len(ranked))
    ranks = {round(i * (len(ranked) - 1) / max(1, count - 1)) for i in range(count)}
    return [ranked[rank] for rank in sorted(ranks)]
