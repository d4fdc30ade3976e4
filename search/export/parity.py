"""Compares the logits of an exported file with PyTorch's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Final

import numpy as np

from paretofit.search.export.backends import Session
from paretofit.search.export.formats import TOLERANCE, Precision
from paretofit.search.export.network import Exportable, TorchSession

BATCHES: Final = (1, 2, 5)
"""Number of compared images."""
MOST_PIXELS: Final = 2**20
"""Elements of an input of several images; larger inputs are compared one by one."""


@dataclass(frozen=True, slots=True)
class Parity:
    """`max_abs_diff` is the largest difference of a logit; `tolerance` is its limit, relative to the largest logit
    magnitude `max_abs_logit`."""

    max_abs_diff: float
    max_abs_logit: float
    tolerance: float
    batches: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; null for values that are not finite."""
        return {
            name: value if not isinstance(value, float) or isfinite(value) else None
            for name, value in asdict(self).items()
        }


class ParityError(ValueError):
    """The file does not compute the same logits."""

    def __init__(self, parity: Parity) -> None:
        super().__init__(
            f"logits differ from PyTorch's by {parity.max_abs_diff:.3g}; the tolerance is {parity.tolerance:.3g} "
            f"for logits up to {parity.max_abs_logit:.3g}"
        )
        self.parity = parity


def compare(source: Exportable, session: Session, precision: Precision = "float32") -> Parity:
    """Run both on the same random images, in several batch sizes. Raises ParityError, also for NaN logits."""
    reference = TorchSession(source.network)
    largest_batch = max(1, MOST_PIXELS // (source.size[0] * source.size[1]))
    free = tuple(batch for batch in BATCHES if batch <= largest_batch)
    batches = free if source.batch is None else (source.batch,) * len(BATCHES)
    differences, magnitudes = [0.0], [0.0]
    for seed, batch in enumerate(batches):
        images = source.example(batch, seed).numpy()
        expected, found = reference(images), session(images)
        if found.shape != expected.shape:
            raise ValueError(f"the file returns logits {found.shape}, the network {expected.shape}")
        differences.append(float(np.abs(found - expected).max()))
        magnitudes.append(float(np.abs(expected).max()))
    largest = max(magnitudes)
    # max() would ignore a NaN.
    difference = float(np.max(differences))
    parity = Parity(difference, largest, TOLERANCE[precision] * largest, batches)
    if not difference <= parity.tolerance:
        raise ParityError(parity)
    return parity
