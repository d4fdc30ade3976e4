"""How many of a worker's processes may do long jobs at once, so that one is always free to plan."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


class JobSlots:
    """Made before the worker forks. A place is a lock that a process holds, so the kernel gives it back whatever ends
    that."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._file = os.memfd_create("paretofit-places")

    @contextmanager
    def acquire(self) -> Iterator[bool]:
        """Hold a place for the block; False if there is none."""
        for place in range(self._count):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                continue
            try:
                yield True
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
            return
        yield False
