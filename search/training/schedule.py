"""The learning rate as a function of the step: nothing to save, nothing to get wrong on resume."""

from __future__ import annotations

import math


def cosine(peak: float, step: int, steps: int) -> float:
    """From `peak` at step 0 down half a cosine, to 0 at `steps` (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * peak * (1 + math.cos(math.pi * min(step, steps) / steps))


def warmed_up(peak: float, step: int, steps: int, warmup: int) -> float:
    """Up a line that reaches `peak` at step `warmup`, then down half a cosine, to 0 at `steps` (Goyal et al., arXiv
    1706.02677, section 2.2)."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return cosine(peak, step - warmup, steps - warmup)
