"""Scratch folders that are removed after use, even if the user was killed: a lock shows whether one is in use."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(parent: Path, name: str) -> Iterator[Path]:
    """A new empty folder `parent/name`, removed at the end of the block; removes abandoned folders there first."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / name
    with _locked(parent, wait=True):
        for stale in parent.iterdir():
            with _locked(stale, wait=False) as free:
                if free:
                    shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir()
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the folder's lock. False if another process holds it and `wait` is False, or if it is not a folder now."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
