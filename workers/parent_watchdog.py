"""Ends this process when its supervisor exits; `python -m paretofit.workers.parent_watchdog MODULE ARGUMENTS...` runs
a module under it.

Standard input is a pipe whose other end only the supervisor holds. Its lines are commands from the supervisor. At end
of file the whole process group is killed.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from io import FileIO


def attach(on_line: Callable[[bytes], object]) -> None:
    """Call `on_line` in a thread with every line of standard input, which is empty for everything else from now on."""
    stdin = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    threading.Thread(target=_watch, args=(FileIO(stdin, "r"), on_line), name="parent-watchdog", daemon=True).start()


def _watch(stdin: FileIO, on_line: Callable[[bytes], object]) -> None:
    try:
        for line in stdin:
            on_line(line)
    finally:
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


if __name__ == "__main__":
    attach(lambda _: None)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
