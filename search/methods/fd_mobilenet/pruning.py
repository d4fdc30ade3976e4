"""Prunes trainings: compares networks during training on the same images. Torch-free, pure.

A comparison is stored as JSON: {"fraction", "top1", "hits"}; `hits` is a hexadecimal number with one bit per image, set
if the image was classified correctly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.plan import TrialRecord

_MOST: Final = 3
"""Number of rivals kept for each fraction of the training."""


def of(candidate: Candidate, history: Sequence[TrialRecord], costs: Mapping[int, Mapping[str, float]]) -> list[Any]:
    """Comparisons of earlier trials, by trial number, whose networks cost no more than the candidate in any of `costs`.
    Only the best at each fraction are passed to the candidate's trial."""
    found: dict[float, list[dict[str, Any]]] = {}
    for record in history:
        if all(cost <= candidate.cost[name] for name, cost in costs[record.number].items()):
            for compared in (record.outputs or {}).get("compared", []):
                found.setdefault(compared["fraction"], []).append({"trial": record.number, **compared})
    return [
        rival
        for fraction in sorted(found)
        for rival in sorted(found[fraction], key=lambda each: (-each["top1"], each["trial"]))[:_MOST]
    ]


def mcnemar_dominates(own: str, rivals: Iterable[Mapping[str, Any]], errors: float) -> int | None:
    """Number of the first rival trial that is significantly better than `own`: by more than `errors` standard errors of
    the paired difference of correct answers (McNemar, 1947). None if there is none."""
    mine = int(own, 16)
    for rival in rivals:
        theirs = int(rival["hits"], 16)
        gained, lost = (theirs & ~mine).bit_count(), (mine & ~theirs).bit_count()
        if gained - lost > errors * (gained + lost) ** 0.5:
            return int(rival["trial"])
    return None
