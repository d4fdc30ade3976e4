"""Machine lock: shared by trainings, exclusive for measurements. Torch-free."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

_TICK: Final = 0.05
_TURN: Final = ".turn"


@contextmanager
def held(path: Path, mode: Literal["shared", "alone"], check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock for the block; the kernel releases it when the process ends.

    A process that waits for the exclusive lock blocks later ones. `check` is called while waiting, and may raise.
    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_EX if mode == "alone" else fcntl.LOCK_SH
    with _locked(path.with_name(path.name + _TURN), fcntl.LOCK_EX, check) as turn:
        descriptor = _open(path)
        try:
            _wait(descriptor, kind, check)
            os.close(turn.pop())
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _locked(path: Path, kind: int, check: Callable[[], None]) -> Iterator[list[int]]:
    """A locked file, as a list with its descriptor; a caller that closes it early removes it."""
    descriptors = [_open(path)]
    try:
        _wait(descriptors[0], kind, check)
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _wait(descriptor: int, kind: int, check: Callable[[], None]) -> None:
    while True:
        check()
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_TICK)
        else:
            return
