"""The learning rate as a function of the step: nothing to save, nothing to get wrong on resume."""

from __future__ import annotations

import math
from typing import Literal

Fall = Literal["cosine", "thirds"]


def cosine(peak: float, step: int, steps: int) -> float:
    """From `peak` at step 0 down half a cosine, to 0 at `steps` (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * peak * (1 + math.cos(math.pi * min(step, steps) / steps))


def thirds(peak: float, step: int, steps: int) -> float:
    """`peak`, and a tenth of it after each third of the steps: every 30 of 90 epochs, as ImageNet networks were trained
    (He et al., arXiv 1512.03385; Qin et al., arXiv 1802.03750)."""
    return peak * 0.1 ** min(2, 3 * step // steps)


def warmed_up(peak: float, step: int, steps: int, warmup: int, fall: Fall = "cosine") -> float:
    """Up a line that reaches `peak` at step `warmup` (Goyal et al., arXiv 1706.02677, section 2.2), then down to the
    end at `steps`."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    falling = cosine if fall == "cosine" else thirds
    return falling(peak, step - warmup, steps - warmup)
