"""Detects kills by the kernel's out-of-memory killer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """Number of OOM kills in this process's control group, or on the whole machine if groups do not count them."""
    return next((count for count in map(_read, _counters()) if count is not None), 0)


def _counters() -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return [*(_CGROUPS / path / "memory.events" for path in own), Path("/proc/vmstat")]


def _read(counter: Path) -> int | None:
    try:
        found = dict(line.split() for line in counter.read_text().splitlines())
        return int(found["oom_kill"])
    except (OSError, KeyError):
        return None
