"""Tells a Celery child that its worker is shutting down, by a pipe whose write end only the main process holds.

The main process closes it at a warm shutdown; if the main process is killed, the kernel does. Either way the child
reads end of file and drains its work. If the parent has exited, the child exits too, and its job is reclaimed when the
lease expires.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final

from celery.signals import worker_init, worker_process_init, worker_shutting_down

draining: Final = threading.Event()
"""Set in a child process when its worker is shutting down."""

_pipe: list[int] = []


def _open(**_: Any) -> None:
    _pipe[:] = os.pipe()


def _close(**_: Any) -> None:
    if len(_pipe) == 2:
        os.close(_pipe.pop())


def _watch(**_: Any) -> None:
    if len(_pipe) == 2:
        os.close(_pipe.pop())
    threading.Thread(target=_wait, args=(_pipe[0], os.getppid()), name="parent", daemon=True).start()


def _wait(descriptor: int, parent: int) -> None:
    os.read(descriptor, 1)
    draining.set()
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(1)


worker_init.connect(_open)
worker_shutting_down.connect(_close)
worker_process_init.connect(_watch)
