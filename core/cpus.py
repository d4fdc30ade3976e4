"""The number of CPUs that a process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_MOUNTED: Final = Path("/sys/fs/cgroup")


def available_cpus(membership: Path = _MEMBERSHIP, mounted: Path = _MOUNTED) -> int:
    """Number of CPUs by the affinity and by the quotas of the control group and its ancestors, at least 1.

    `membership` lists the process's groups in the format of /proc/self/cgroup; `mounted` is the mount point of the
    control groups (versions 1 and 2).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Threads beyond the quota throttle all of them.
    return max(1, int(min([allowed, *_quotas(membership, mounted)])))


def _quotas(membership: Path, mounted: Path) -> Iterator[float]:
    """CPU quotas of the control groups that have one, in CPUs."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _ancestors(mounted, path):
                yield from _quota(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for folder in _ancestors(mounted / "cpu", path):
                yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _ancestors(mounted: Path, path: str) -> Iterator[Path]:
    """The folders of a group and its visible ancestors: a container sees its own group as the root."""
    inner = PurePosixPath(path.lstrip("/"))
    while True:
        yield mounted / inner
        if not inner.parts:
            return
        inner = inner.parent


def _quota(*files: Path) -> Iterator[float]:
    """The quota in `cpu.max` or the two files of version 1, in CPUs; nothing without a limit."""
    try:
        share, period = " ".join(file.read_text() for file in files).split()
        if share != "max" and int(share) > 0:
            yield int(share) / int(period)
    except (OSError, ValueError):
        return
