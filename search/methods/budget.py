"""How epochs are shared among the trainings of a search, and networks chosen evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def equal_share(planned: int, trainings: int, most: int | None, number: int) -> int:
    """Epochs of training `number`, counted from 0: `planned`, or where `most` are too few for that an equal share of
    them, the first trainings getting the remainder."""
    if most is None or most >= trainings * planned:
        return planned
    each, over = divmod(most, trainings)
    return each + (number < over)


def proportional(first: int, each: int, others: int, most: int | None) -> tuple[int, int, int]:
    """Epochs of a first training, of each of those that follow it, and the number of these: as planned, or where `most`
    are too few in proportion, at least one each; the last ones are left out where there are not even so many."""
    total = first + each * others
    if most is None or total <= most:
        return first, each, others
    if not (others := min(others, most - 1)):
        return most, 0, 0
    each = max(1, min(each * most // total, (most - 1) // others))
    return min(first, most - each * others), each, others


def evenly(ranked: Sequence[T], count: int) -> list[T]:
    """`count` of them, the first and the last among them, at equal distances; all, if there are no more."""
    count = min(count, len(ranked))
    ranks = {round(i * (len(ranked) - 1) / max(1, count - 1)) for i in range(count)}
    return [ranked[rank] for rank in sorted(ranks)]
