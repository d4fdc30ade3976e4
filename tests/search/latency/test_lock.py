"""Lock that lets trainings share a machine and gives measurements exclusive access."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from paretofit.search.latency.lock import held


def hold(path: Path, mode: str) -> subprocess.Popen[bytes]:
    """A process that holds the lock until it is killed."""
    program = (
        "import sys, time; from pathlib import Path; from paretofit.search.latency.lock import held\n"
        "with held(Path(sys.argv[1]), sys.argv[2]): print('held', flush=True); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path), mode], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


class TimedOutError(Exception):
    """The lock was not acquired within a few checks."""


def is_blocked(path: Path, mode: str) -> bool:
    """Whether the lock cannot be acquired immediately."""
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks > 4:
            raise TimedOutError

    try:
        with held(path, "alone" if mode == "alone" else "shared", check):
            return False
    except TimedOutError:
        return True


@pytest.mark.parametrize(
    ("first", "second", "blocked"),
    [("shared", "shared", False), ("shared", "alone", True), ("alone", "shared", True), ("alone", "alone", True)],
)
def test_trainings_share_the_lock_and_measurements_are_exclusive(
    tmp_path: Path, first: str, second: str, blocked: bool
) -> None:
    path = tmp_path / "new" / "lock"
    process = hold(path, first)
    try:
        assert is_blocked(path, second) is blocked
    finally:
        process.kill()
        process.communicate()
    assert not is_blocked(path, second)


def test_waiting_measurement_blocks_later_trainings(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = hold(path, "shared")
    entered = threading.Event()
    waiting = threading.Event()

    def measure() -> None:
        with held(path, "alone", waiting.set):
            entered.set()

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        assert waiting.wait(5)
        time.sleep(0.2)
        assert is_blocked(path, "shared")
        assert not entered.is_set()
    finally:
        process.kill()
        process.communicate()
        thread.join()
    assert entered.is_set()
    assert not is_blocked(path, "shared")
