"""Whether a training is worth its end: networks compared halfway on the same images. Torch-free, pure.

What is kept of a comparison is JSON: {"fraction", "top1", "hits"}, the last a hexadecimal number with a bit for each
image that was classified rightly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.plan import TrialRecord

_MOST: Final = 3
"""Rivals at each fraction of a training: the best."""


def of(candidate: Candidate, history: Sequence[TrialRecord], costs: Mapping[int, Mapping[str, float]]) -> list[Any]:
    """The comparisons of earlier trials whose networks cost no more than the candidate in any of `costs` (by trial
    number), the best ones at each fraction: what the candidate's trial is given."""
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
    """The number of a rival's trial that was right so much more often than `own` that chance does not explain it: by
    more than `errors` standard errors of the paired difference (McNemar, 1947). None: there is none."""
    mine = int(own, 16)
    for rival in rivals:
        theirs = int(rival["hits"], 16)
        gained, lost = (theirs & ~mine).bit_count(), (mine & ~theirs).bit_count()
        if gained - lost > errors * (gained + lost) ** 0.5:
            return int(rival["trial"])
    return None
