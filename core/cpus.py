"""How many cores a process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_MOUNTED: Final = Path("/sys/fs/cgroup")


def cores(membership: Path = _MEMBERSHIP, mounted: Path = _MOUNTED) -> int:
    """By its affinity and by the quotas of its control group and of those above it, at least 1.

    `membership` names the process's groups, as /proc/self/cgroup does; `mounted` is where they are (versions 1 and 2).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A thread beyond the quota makes all of them wait.
    return max(1, int(min([allowed, *_quotas(membership, mounted)])))


def _quotas(membership: Path, mounted: Path) -> Iterator[float]:
    """Cores of every control group that limits them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(mounted, path):
                yield from _quota(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for folder in _upwards(mounted / "cpu", path):
                yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _upwards(mounted: Path, path: str) -> Iterator[Path]:
    """The folders of a group and of those above it that can be seen here: a container sees its own as the root."""
    inner = PurePosixPath(path.lstrip("/"))
    while True:
        yield mounted / inner
        if not inner.parts:
            return
        inner = inner.parent


def _quota(*files: Path) -> Iterator[float]:
    """What `cpu.max`, or version 1's two files, say; nothing without a limit."""
    try:
        share, period = " ".join(file.read_text() for file in files).split()
        if share != "max" and int(share) > 0:
            yield int(share) / int(period)
    except (OSError, ValueError):
        return
