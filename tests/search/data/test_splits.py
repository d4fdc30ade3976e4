from __future__ import annotations

import numpy as np
import pytest

from paretofit.search.data import splits
from paretofit.search.data.splits import Draw

LABELS = np.repeat(np.arange(3), (600, 300, 100))


def counts(rows: splits.Rows) -> list[int]:
    return [int((LABELS[rows] == label).sum()) for label in range(3)]


@pytest.mark.parametrize(("size", "expected"), [(1000, [600, 300, 100]), (100, [60, 30, 10]), (101, [61, 30, 10])])
def test_subset_keeps_class_proportions(size: int, expected: list[int]) -> None:
    rows = splits.subset(LABELS, size, seed=3)
    assert counts(rows) == expected
    assert len(np.unique(rows)) == size
    assert (np.diff(rows) > 0).all()


def test_draws_depend_only_on_the_seed() -> None:
    assert (splits.subset(LABELS, 100, seed=1) == splits.subset(LABELS, 100, seed=1)).all()
    assert (splits.subset(LABELS, 100, seed=1) != splits.subset(LABELS, 100, seed=2)).any()
    report, selection = (splits.holdout(LABELS, 0.1, 1, draw) for draw in (Draw.REPORT, Draw.SELECTION))
    assert counts(report) == counts(selection) == [60, 30, 10]
    assert set(report) != set(selection)


def test_smaller_subset_is_contained_in_a_larger_one() -> None:
    assert set(splits.subset(LABELS, 100, seed=1)) < set(splits.subset(LABELS, 500, seed=1))


def test_holdout_has_at_least_one_image_of_each_class() -> None:
    assert counts(splits.holdout(LABELS, 0.001, 0, Draw.REPORT)) == [1, 1, 1]


def test_draws_of_a_class_do_not_depend_on_other_classes() -> None:
    both = splits.holdout(LABELS, 0.1, 5, Draw.SELECTION)
    subset = splits.holdout(LABELS[:600], 0.1, 5, Draw.SELECTION)
    assert (both[: len(subset)] == subset).all()
