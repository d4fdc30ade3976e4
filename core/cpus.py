"""How many cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """By its affinity and its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        share, period = quota.read_text().split()
        if share != "max":
            allowed = min(allowed, max(1, round(int(share) / int(period))))
    return allowed
