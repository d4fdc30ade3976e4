"""The accuracy of the majority class, and whether a network beats it. Pure Python: the API imports it.

The majority classifier always answers the most frequent class of the training split. A network counts as better than it
only if its accuracy is above by more than two standard errors of that share on the images it was measured on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ClassCounts = Mapping[str, Mapping[str, int]]
"""Images by split and class, as a dataset's report has them (`class_counts`)."""

AT_CHANCE: Final = "at_chance"
STANDARD_ERRORS: Final = 2.0
SPLITS: Final = {"top1": "report", "selection_top1": "selection"}
"""The split that each accuracy of a point is measured on. `top1` comes first: no point is chosen on it."""


@dataclass(frozen=True, slots=True)
class Majority:
    """The classifier that always answers `label`: its accuracy by split, a fraction in [0, 1], and the split's
    images."""

    label: str
    top1: Mapping[str, float]
    images: Mapping[str, int]

    def accuracy(self, metric: str) -> float | None:
        """What it reaches where the metric `top1` or `selection_top1` is measured; None if that split is empty."""
        return self.top1.get(SPLITS[metric])

    def by_metric(self) -> dict[str, float | None]:
        """`accuracy` of each metric, as a point has them."""
        return {metric: self.accuracy(metric) for metric in SPLITS}


def majority(counts: ClassCounts | None) -> Majority | None:
    """The majority classifier of a dataset; None if its images were not counted. Of classes that are equally
    frequent it answers the first by name, whatever the order of the counts."""
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
    """Of a share that was observed on so many images (binomial): sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / images)


def beats_majority(top1: float, share: float, images: int) -> bool:
    """Whether an accuracy on `images` images is above the majority's `share` of them by more than two standard
    errors."""
    return top1 > _threshold(share, images)


def warnings(best: Mapping[str, float | None] | None, baseline: Majority | None) -> list[dict[str, Any]]:
    """What a search's readers have to know of its most accurate network, given its metrics: {code, detail} each.

    It is compared on the report split, or on the selection split if it was not measured there. Empty without a network,
    and for a dataset whose classes were not counted.
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
    return share + STANDARD_ERRORS * standard_error(share, images)


def _detail(top1: float, baseline: Majority, split: str) -> str:
    share, images = baseline.top1[split], baseline.images[split]
    margin = STANDARD_ERRORS * standard_error(share, images)
    reached = (
        f"The best network reaches {100 * top1:.1f} % on the {split} split; always answering {baseline.label!r} "
        f"reaches {100 * share:.1f} % (two standard errors: {100 * margin:.1f}). "
    )
    if _threshold(share, images) >= 1:
        return reached + f"Its {images} images cannot show that anything was learned: add images of the other classes."
    return reached + (
        "Nothing useful was learned: check the labels, lower `learning_rate`, or start from trained weights (`start`)."
    )
