"""In which order networks are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(ranked: Sequence[T], count: int) -> list[T]:
    """`count` of them, the first and the last among them, at equal distances; all, if there are no more."""
    count = min(count, len(ranked))
    ranks = {round(i * (len(ranked) - 1) / max(1, count - 1)) for i in range(count)}
    return [ranked[rank] for rank in sorted(ranks)]
