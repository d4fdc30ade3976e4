from __future__ import annotations

from pathlib import Path

from paretofit.workers.memory import oom_kills


def test_oom_kills_are_read_from_the_kernel() -> None:
    assert Path("/proc/vmstat").exists()
    assert oom_kills() >= 0
