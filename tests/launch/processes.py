"""Observes processes from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def eventually(condition: Callable[[], bool], *, within: float) -> bool:
    """Poll a condition. Returns whether it became true in time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class Script:
    """A Python script in its own process that prints a line when it is ready and then waits to be killed."""

    def __init__(
        self,
        code: str,
        *arguments: str,
        prefix: Sequence[str] = (),
        python: Path = Path(sys.executable),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [*prefix, str(python), "-c", f"{code}\nimport time\ntime.sleep(60)\n", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=None if environment is None else os.environ | environment,
        )

    def line(self) -> str:
        """The next line that the script prints. Raises AssertionError with its errors if it ends instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        return line

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
