"""Dominance test between networks by McNemar's test."""

from __future__ import annotations

import pytest

from paretofit.search.methods.fd_mobilenet.pruning import mcnemar_dominates


def rival(hits: int, trial: int = 3) -> dict[str, object]:
    return {"trial": trial, "hits": f"{hits:x}"}


@pytest.mark.parametrize(
    ("gained", "lost", "errors", "worse"),
    [(9, 0, 2, True), (4, 0, 2, False), (60, 40, 2, False), (61, 39, 2, True), (1, 0, 0, True), (3, 3, 0, False)],
)
def test_dominance_depends_on_the_paired_difference(gained: int, lost: int, errors: float, worse: bool) -> None:
    """McNemar: b - c against its standard error sqrt(b + c); images with equal outcomes do not count."""
    both = ((1 << 200) - 1) << 200
    own_hits = both | ((1 << lost) - 1)
    rival_hits = both | (((1 << gained) - 1) << 100)
    assert (mcnemar_dominates(f"{own_hits:x}", [rival(rival_hits)], errors) == 3) is worse


def test_one_dominating_rival_is_enough() -> None:
    assert mcnemar_dominates("0", [rival(0, 1), rival(0xFFFF, 2)], 2.0) == 2
    assert mcnemar_dominates("0", [], 2.0) is None
