"""Stratified sampling by seed. A class's sample depends only on the seed and on that class."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Draw(IntEnum):
    """Purpose of a sample; each has its own random stream."""

    SUBSET = 0
    REPORT = 1
    SELECTION = 2


def subset(labels: Rows, size: int, seed: int) -> Rows:
    """`size` rows, sorted, stratified by class (largest remainders). A smaller subset of the same seed lies within a
    larger one, except for rounding."""
    classes, counts = np.unique(labels, return_counts=True)
    quota = size * counts / len(labels)
    take = np.floor(quota).astype(np.int64)
    take[np.argsort(take - quota, kind="stable")[: size - int(take.sum())]] += 1
    return _draw(labels, dict(zip(classes.tolist(), take.tolist(), strict=True)), seed, Draw.SUBSET)


def holdout(labels: Rows, fraction: float, seed: int, draw: Draw) -> Rows:
    """Sorted rows: the rounded fraction of every class, at least one image of each."""
    classes, counts = np.unique(labels, return_counts=True)
    take = {int(c): max(1, round(int(n) * fraction)) for c, n in zip(classes, counts, strict=True)}
    return _draw(labels, take, seed, draw)


def _draw(labels: Rows, take: dict[int, int], seed: int, draw: Draw) -> Rows:
    drawn = [
        np.random.default_rng([seed, draw, label]).permutation(np.flatnonzero(labels == label))[:count]
        for label, count in take.items()
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
