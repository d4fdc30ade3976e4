"""Who may be on a machine with whom."""

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


class GivenUpError(Exception):
    """The test waited long enough."""


def waits(path: Path, mode: str) -> bool:
    """Whether the lock cannot be had at once."""
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks > 4:
            raise GivenUpError

    try:
        with held(path, "alone" if mode == "alone" else "shared", check):
            return False
    except GivenUpError:
        return True


@pytest.mark.parametrize(
    ("first", "second", "waiting"),
    [("shared", "shared", False), ("shared", "alone", True), ("alone", "shared", True), ("alone", "alone", True)],
)
def test_trainings_share_and_a_measurement_is_alone(tmp_path: Path, first: str, second: str, waiting: bool) -> None:
    path = tmp_path / "new" / "lock"
    process = hold(path, first)
    try:
        assert waits(path, second) is waiting
    finally:
        process.kill()
        process.communicate()
    assert not waits(path, second)


def test_who_waits_to_be_alone_goes_before_later_trainings(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = hold(path, "shared")
    entered = threading.Event()
    asking = threading.Event()

    def alone() -> None:
        with held(path, "alone", asking.set):
            entered.set()

    thread = threading.Thread(target=alone)
    thread.start()
    try:
        assert asking.wait(5)
        time.sleep(0.2)
        assert waits(path, "shared")
        assert not entered.is_set()
    finally:
        process.kill()
        process.communicate()
        thread.join()
    assert entered.is_set()
    assert not waits(path, "shared")
