"""The learning rate as a function of the step: nothing to save, nothing to get wrong on resume."""

from __future__ import annotations

import math


def cosine(peak: float, step: int, steps: int) -> float:
    """From `peak` at step 0 down half a cosine, to 0 at `steps` (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * peak * (1 + math.cos(math.pi * min(step, steps) / steps))
