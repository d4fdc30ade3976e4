"""The majority class, and warnings about networks that do not beat it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from paretofit.search import chance
from paretofit.search.chance import AT_CHANCE, Majority, beats_majority, majority, standard_error, warnings

CLOTHING = {
    "train": {"dress": 300, "t-shirt": 900, "skirt": 200},
    "selection": {"dress": 40, "t-shirt": 50, "skirt": 10},
    "report": {"dress": 172, "t-shirt": 52, "skirt": 148},
}
"""The most frequent class of the training images is not that of the report split."""


def baseline(counts: chance.ClassCounts = CLOTHING) -> Majority:
    found = majority(counts)
    assert found is not None
    return found


def test_it_is_the_training_splits_class_measured_on_the_other_splits() -> None:
    found = baseline()
    assert found.label == "t-shirt"
    assert found.accuracy("top1") == 52 / 372
    assert found.accuracy("selection_top1") == 0.5
    assert found.by_metric() == {"top1": 52 / 372, "selection_top1": 0.5}
    assert found.images == {"report": 372, "selection": 100}


def test_a_class_that_a_split_lacks_is_never_right_there() -> None:
    found = baseline({"train": {"a": 2, "b": 1}, "selection": {"b": 3}, "report": {"a": 0, "b": 0}})
    assert found.accuracy("selection_top1") == 0
    assert found.accuracy("top1") is None


@pytest.mark.parametrize(
    "counts", [None, {}, {"all": {"a": 1}}, {"train": {}}, {"train": {"a": 0}}, {"train": {"a": 1}}]
)
def test_without_counts_nothing_is_known(counts: chance.ClassCounts | None) -> None:
    assert majority(counts) is None
    assert warnings({"top1": 0.0}, majority(counts)) == []


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 5), min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_the_counts_does_not_matter(counts: dict[str, int], source: random.Random) -> None:
    """JSONB keeps none."""
    shuffled = list(counts.items())
    source.shuffle(shuffled)
    assert majority({"train": counts, "report": counts}) == majority(
        {"train": dict(shuffled), "report": dict(shuffled)}
    )


shares = st.integers(1, 2000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images)))


@given(shares, st.floats(0, 1))
def test_a_warning_if_and_only_if_the_best_is_within_two_standard_errors(share: tuple[int, int], top1: float) -> None:
    hits, images = share
    p = hits / images
    found = Majority("a", {"report": p}, {"report": images})
    within = top1 <= p + 2 * math.sqrt(p * (1 - p) / images)
    assert beats_majority(top1, p, images) == (not within)
    assert [warning["code"] for warning in warnings({"top1": top1}, found)] == ([AT_CHANCE] if within else [])


@given(shares, st.floats(0, 1), st.floats(0, 1))
def test_a_better_network_never_gets_a_warning_that_a_worse_one_does_not(
    share: tuple[int, int], low: float, high: float
) -> None:
    assume(low <= high)
    p = share[0] / share[1]
    assert beats_majority(low, p, share[1]) <= beats_majority(high, p, share[1])


def test_the_report_split_decides_where_it_was_measured() -> None:
    found = baseline()
    assert warnings({"selection_top1": 0.1, "top1": 0.5}, found) == []
    [warning] = warnings({"selection_top1": 0.9, "top1": 0.14}, found)
    assert "on the report split" in warning["detail"]
    [warning] = warnings({"selection_top1": 0.5}, found)
    assert "on the selection split" in warning["detail"]
    assert warnings({"selection_top1": 0.61, "top1": None}, found) == []
    assert warnings({"macs": 1.0}, found) == []
    assert warnings(None, found) == []


def test_it_says_both_accuracies_and_what_to_do() -> None:
    [warning] = warnings({"selection_top1": 0.5, "top1": 52 / 372}, baseline())
    assert warning["code"] == AT_CHANCE
    error = 200 * standard_error(52 / 372, 372)
    assert warning["detail"] == (
        "The best network reaches 14.0 % on the report split; always answering 't-shirt' reaches 14.0 % (two "
        f"standard errors: {error:.1f}). Nothing useful was learned: check the labels, lower `learning_rate`, or "
        "start from trained weights (`start`)."
    )


def test_small_splits_are_reported() -> None:
    found = Majority("a", {"report": 0.9}, {"report": 10})
    [warning] = warnings({"top1": 1.0}, found)
    assert "10 images are too few to show that the network learned" in warning["detail"]
    assert "Nothing useful" not in warning["detail"]
