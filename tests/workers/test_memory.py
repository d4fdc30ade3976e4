from __future__ import annotations

from pathlib import Path

from paretofit.workers.memory import oom_kills


def test_kills_are_counted_where_the_kernel_counts_them() -> None:
    assert Path("/proc/vmstat").exists()
    assert oom_kills() >= 0
