"""The exception of a diverged training. Torch-free."""

from __future__ import annotations

from typing import ClassVar


class NonFiniteError(ValueError):
    """Weights, statistics or losses are infinite or NaN: the training diverged."""

    code: ClassVar[str] = "diverged"
