"""Limits how many processes of a worker run long jobs at once, so that one is always free for planning."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


class JobSlots:
    """Created before the worker forks. A slot is a file lock, so the kernel frees it however its holder ends."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._file = os.memfd_create("paretofit-job-slots")

    @contextmanager
    def acquire(self) -> Iterator[bool]:
        """Hold a slot for the block; False if none is free."""
        for slot in range(self._count):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except (BlockingIOError, PermissionError):
                continue
            try:
                yield True
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
            return
        yield False
