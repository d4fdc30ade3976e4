"""Accuracy of the majority-class classifier, and whether a network beats it. Pure Python: the API imports it.

The majority classifier always answers the most frequent class of the training split. A network beats it only if its
accuracy is higher by more than two standard errors of the majority share on the images it was measured on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ClassCounts = Mapping[str, Mapping[str, int]]
"""Images by split and class, as in a dataset's report (`class_counts`)."""

AT_CHANCE: Final = "at_chance"
STANDARD_ERRORS: Final = 2.0
SPLITS: Final = {"top1": "report", "selection_top1": "selection"}
"""The split that each accuracy of a point is measured on. `top1` comes first: points are not selected by it."""


@dataclass(frozen=True, slots=True)
class Majority:
    """The classifier that always answers `label`: its accuracy by split, a fraction in [0, 1], and the split's
    images."""

    label: str
    top1: Mapping[str, float]
    images: Mapping[str, int]

    def accuracy(self, metric: str) -> float | None:
        """Its accuracy on the split of the metric `top1` or `selection_top1`; None if that split is empty."""
        return self.top1.get(SPLITS[metric])

    def by_metric(self) -> dict[str, float | None]:
        """`accuracy` of each metric, under the names of a point's metrics."""
        return {metric: self.accuracy(metric) for metric in SPLITS}


def majority(counts: ClassCounts | None) -> Majority | None:
    """The majority classifier of a dataset; None without image counts. Of equally frequent classes it answers the first
    by name, independent of the order of the counts."""
    train = (counts or {}).get("train", {})
    if counts is None or not any(train.values()):
        return None
    label = min(train, key=lambda name: (-train[name], name))
    images = {split: sum(counts[split].values()) for split in SPLITS.values() if split in counts}
    images = {split: number for split, number in images.items() if number}
    if not images:
        return None
    return Majority(label, {split: counts[split].get(label, 0) / images[split] for split in images}, images)


def standard_error(share: float, images: int) -> float:
    """Standard error of a share observed on this many images (binomial): sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / images)


def beats_majority(top1: float, share: float, images: int) -> bool:
    """Whether an accuracy on `images` images exceeds the majority's `share` of them by more than two standard
    errors."""
    return top1 > _threshold(share, images)


def warnings(best: Mapping[str, float | None] | None, baseline: Majority | None) -> list[dict[str, Any]]:
    """Warnings {code, detail} about the most accurate network of a search, given its metrics.

    It is compared on the report split, or on the selection split if it was not measured there. Empty without a network,
    and for a dataset without class counts.
    """
    if best is None or baseline is None:
        return []
    for metric, split in SPLITS.items():
        top1, share = best.get(metric), baseline.accuracy(metric)
        if top1 is None or share is None:
            continue
        if beats_majority(top1, share, baseline.images[split]):
            return []
        return [{"code": AT_CHANCE, "detail": _detail(top1, baseline, split)}]
    return []


def _threshold(share: float, images: int) -> float:
    return share + STANDARD_ERRORS * _error(share, images)


def _error(share: float, images: int) -> float:
    """The standard error of the majority's share; at a share of 0, which has none, that of Agresti & Coull's estimate
    (The American Statistician 1998): one correct answer alone does not beat chance."""
    return standard_error(share, images) if share else standard_error(2 / (images + 4), images + 4)


def _detail(top1: float, baseline: Majority, split: str) -> str:
    share, images = baseline.top1[split], baseline.images[split]
    margin = STANDARD_ERRORS * _error(share, images)
    reached = (
        f"The best network reaches {100 * top1:.1f} % on the {split} split; always answering {baseline.label!r} "
        f"reaches {100 * share:.1f} % (two standard errors: {100 * margin:.1f}). "
    )
    if _threshold(share, images) >= 1:
        return (
            reached
            + f"The {images} images are too few to show that the network learned: add images of the other classes."
        )
    if top1 > share:
        return reached + (
            f"With {images} images this may be chance: add images, check the labels, lower `learning_rate`, or "
            "start from trained weights (`start`)."
        )
    return reached + (
        "Nothing useful was learned: check the labels, lower `learning_rate`, or start from trained weights (`start`)."
    )
