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
    baseline_class = majority(counts)
    assert baseline_class is not None
    return baseline_class


def test_majority_class_of_training_is_evaluated_on_other_splits() -> None:
    baseline_class = baseline()
    assert baseline_class.label == "t-shirt"
    assert baseline_class.accuracy("top1") == 52 / 372
    assert baseline_class.accuracy("selection_top1") == 0.5
    assert baseline_class.by_metric() == {"top1": 52 / 372, "selection_top1": 0.5}
    assert baseline_class.images == {"report": 372, "selection": 100}


def test_majority_class_missing_from_a_split_has_zero_accuracy() -> None:
    baseline_class = baseline({"train": {"a": 2, "b": 1}, "selection": {"b": 3}, "report": {"a": 0, "b": 0}})
    assert baseline_class.accuracy("selection_top1") == 0
    assert baseline_class.accuracy("top1") is None


@pytest.mark.parametrize(
    "counts", [None, {}, {"all": {"a": 1}}, {"train": {}}, {"train": {"a": 0}}, {"train": {"a": 1}}]
)
def test_missing_counts_give_no_majority_and_no_warnings(counts: chance.ClassCounts | None) -> None:
    assert majority(counts) is None
    assert warnings({"top1": 0.0}, majority(counts)) == []


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 5), min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_the_counts_does_not_matter(counts: dict[str, int], source: random.Random) -> None:
    """JSONB does not preserve order."""
    shuffled = list(counts.items())
    source.shuffle(shuffled)
    assert majority({"train": counts, "report": counts}) == majority(
        {"train": dict(shuffled), "report": dict(shuffled)}
    )


shares = st.integers(1, 2000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images)))


@given(shares, st.floats(0, 1))
def test_warning_is_raised_exactly_within_two_standard_errors(share: tuple[int, int], top1: float) -> None:
    hits, images = share
    p = hits / images
    baseline_class = Majority("a", {"report": p}, {"report": images})
    estimate, number = (p, images) if hits else (2 / (images + 4), images + 4)
    within = top1 <= p + 2 * math.sqrt(estimate * (1 - estimate) / number)
    assert beats_majority(top1, p, images) == (not within)
    assert [warning["code"] for warning in warnings({"top1": top1}, baseline_class)] == ([AT_CHANCE] if within else [])


@given(shares, st.floats(0, 1), st.floats(0, 1))
def test_warning_is_monotonic_in_accuracy(share: tuple[int, int], low: float, high: float) -> None:
    assume(low <= high)
    p = share[0] / share[1]
    assert beats_majority(low, p, share[1]) <= beats_majority(high, p, share[1])


def test_report_split_takes_precedence_if_measured() -> None:
    baseline_class = baseline()
    assert warnings({"selection_top1": 0.1, "top1": 0.5}, baseline_class) == []
    [warning] = warnings({"selection_top1": 0.9, "top1": 0.14}, baseline_class)
    assert "on the report split" in warning["detail"]
    [warning] = warnings({"selection_top1": 0.5}, baseline_class)
    assert "on the selection split" in warning["detail"]
    assert warnings({"selection_top1": 0.61, "top1": None}, baseline_class) == []
    assert warnings({"macs": 1.0}, baseline_class) == []
    assert warnings(None, baseline_class) == []


def test_warning_states_both_accuracies_and_a_remedy() -> None:
    [warning] = warnings({"selection_top1": 0.5, "top1": 52 / 372}, baseline())
    assert warning["code"] == AT_CHANCE
    error = 200 * standard_error(52 / 372, 372)
    assert warning["detail"] == (
        "The best network reaches 14.0 % on the report split; always answering 't-shirt' reaches 14.0 % (two "
        f"standard errors: {error:.1f}). Nothing useful was learned: check the labels, lower `learning_rate`, or "
        "start from trained weights (`start`)."
    )


def test_one_correct_answer_is_chance_if_the_split_lacks_the_majority_class() -> None:
    absent = Majority("dress", {"report": 0.0}, {"report": 5})
    assert [warning["code"] for warning in warnings({"top1": 0.2}, absent)] == [AT_CHANCE]
    assert warnings({"top1": 0.6}, absent) == []
    assert warnings({"top1": 0.05}, Majority("dress", {"report": 0.0}, {"report": 372})) == []


def test_warning_for_small_splits() -> None:
    baseline_class = Majority("a", {"report": 0.9}, {"report": 10})
    [warning] = warnings({"top1": 1.0}, baseline_class)
    assert "10 images are too few to show that the network learned" in warning["detail"]
    assert "Nothing useful" not in warning["detail"]
    [warning] = warnings({"top1": 2 / 3}, Majority("a", {"report": 1 / 3}, {"report": 3}))
    assert "With 3 images this may be chance: add images" in warning["detail"]
    assert "Nothing useful" not in warning["detail"]
