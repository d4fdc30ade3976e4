from __future__ import annotations

import os
from pathlib import Path

import pytest

from paretofit.core.cpus import available_cpus

ALLOWED = len(os.sched_getaffinity(0))


def _write_groups(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    (folder / "cgroup").write_text(membership)
    for name, text in files.items():
        path = folder / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "cgroup", folder / "mounted"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, ALLOWED),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "max 100000\n", "a/b/cpu.max": "50000 100000\n"}, 1),
        ("0::/../other\n", {"cpu.max": "100000 100000\n"}, 1),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, ALLOWED),
        ("3:cpu,cpuacct:/a/b\n", {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, 1),
        ("3:cpuset:/a\n", {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, ALLOWED),
        ("0::/\n", {"cpu.max": "invalid\n"}, ALLOWED),
        ("0::/\n", {"cpu.max": f"{100 * 100000} 100000\n"}, ALLOWED),
    ],
)
def test_strictest_quota_of_the_group_and_its_parents_applies(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    assert available_cpus(*_write_groups(tmp_path, membership, files)) == expected


def test_affinity_applies_without_control_groups(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "none", tmp_path) == ALLOWED
