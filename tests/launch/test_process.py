"""No process outlives its parent."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest

from paretofit.launch.process import GuardedProcess
from tests.launch.processes import Script, eventually, gone

STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "60"])
print("up", flush=True)
time.sleep(60)
"""

STARTS_A_SLEEP = """
import sys
from pathlib import Path
from paretofit.launch.process import GuardedProcess
process = GuardedProcess(["sleep", "60"], log=Path(sys.argv[1]))
print(process.pid, flush=True)
"""


def _descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def test_exit_status_is_that_of_the_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert GuardedProcess([sys.executable, "-c", "print('first run'); raise SystemExit(7)"], log=log).wait(30) == 7
    assert GuardedProcess(["sh", "-c", "kill -9 $$"], log=log).wait(30) == 128 + signal.SIGKILL
    absent = GuardedProcess(["/no/such/program"], log=log)
    assert absent.wait(30) == 127
    assert "/no/such/program" in absent.output()
    assert "first run" not in absent.output(), "output of an earlier run"
    assert "first run" in log.read_text()


def test_stop_is_graceful_and_keeps_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = GuardedProcess(["sh", "-c", "trap 'echo saved; exit 3' TERM; echo up; sleep 60 & wait"], log=log)
    assert eventually(lambda: "up" in process.output(), within=10)
    assert process.stop() == 3
    assert process.poll() == 3
    assert "saved" in process.output()


def test_command_that_ignores_the_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    process = GuardedProcess([sys.executable, "-c", STUBBORN], log=tmp_path / "log", grace=0.3)
    assert eventually(lambda: "up" in process.output(), within=10)
    descendants = _descendants(process.pid)
    assert len(descendants) == 2
    assert process.stop() == 128 + signal.SIGKILL
    assert all(gone(pid) for pid in descendants)


def test_command_ends_with_a_killed_parent(tmp_path: Path) -> None:
    script = Script(STARTS_A_SLEEP, str(tmp_path / "log"))
    guard = int(script.line())
    assert eventually(lambda: len(_descendants(guard)) == 1, within=10)
    (command,) = _descendants(guard)
    script.kill()
    assert eventually(lambda: gone(guard) and gone(command), within=5)


@pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="setpriv, which lets the kernel watch the guard, is not installed"
)
def test_command_ends_with_a_killed_guard(tmp_path: Path) -> None:
    process = GuardedProcess(["sleep", "60"], log=tmp_path / "log")
    assert eventually(
        lambda: [child.name() for child in psutil.Process(process.pid).children()] == ["sleep"], within=10
    )
    (command,) = _descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(5) == -signal.SIGKILL
    assert eventually(lambda: gone(command), within=5)


def test_long_log_is_rotated(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("wb") as file:
        file.truncate(32 * 1024**2)
    GuardedProcess(["echo", "fresh"], log=log).wait(30)
    assert log.read_text() == "fresh\n"
    assert (tmp_path / "part.old").stat().st_size == 32 * 1024**2
