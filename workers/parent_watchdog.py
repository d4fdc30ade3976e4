"""Ends this process when its supervisor is gone; `python -m paretofit.workers.parent_watchdog MODULE ARGUMENTS...` runs
a module so.

The leash is standard input: a pipe of which only the supervisor holds the other end. Its lines are the supervisor's
orders. When it ends, the whole process group is killed.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from io import FileIO


def attach(obey: Callable[[bytes], object]) -> None:
    """Hand every line of standard input to `obey`, in a thread; for all others standard input is empty from now on."""
    leash = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(FileIO(leash, "r"), obey), name="leash", daemon=True).start()


def _watch(leash: FileIO, obey: Callable[[bytes], object]) -> None:
    try:
        for line in leash:
            obey(line)
    finally:
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


if __name__ == "__main__":
    attach(lambda _: None)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
