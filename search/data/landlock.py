"""Restricts the files that a process can access, by Landlock (Linux 5.13 or newer,
docs.kernel.org/userspace-api/landlock.html)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# The same numbers on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FIRST_VERSION: Final = (1 << 13) - 1  # these, plus creating and removing entries of a folder
_TRUNCATE: Final = 1 << 14  # since version 3
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READ: Final = _READ_FILE | _READ_DIR

_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc", "/dev/null", "/dev/zero", "/dev/urandom", "/proc/self")


def version() -> int:
    """Version of the kernel's Landlock ABI; 0 if it is missing or not permitted."""
    found: int = _libc().syscall(
        ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION)
    )
    return max(found, 0)


def reach_only(*, written: Iterable[Path], read: Iterable[Path]) -> None:
    """Restrict this thread, and those that it starts, to files below these paths and to Python and its packages. This
    also excludes, in /proc, the memory and environment of other processes.

    Needs `no_new_privs`. No effect if the kernel lacks Landlock. Raises OSError.
    """
    newest = version()
    if newest == 0:
        return
    handled = _FIRST_VERSION | (_TRUNCATE if newest >= 3 else 0)
    attributes = struct.pack("=Q", handled)
    ruleset = _checked(
        _libc().syscall(
            ctypes.c_long(_CREATE_RULESET), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
        )
    )
    try:
        for path in written:
            _allow(ruleset, path, handled)
        for path in (*read, *map(Path, (*_SYSTEM, sys.prefix, sys.base_prefix, *sys.path))):
            if path.exists():
                _allow(ruleset, path, _READ)
        _checked(_libc().syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    with _located(path) as place:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _OF_FILES
        rule = struct.pack("=Qi", access, place)
        _checked(
            _libc().syscall(
                ctypes.c_long(_ADD_RULE),
                ctypes.c_int(ruleset),
                ctypes.c_int(_PATH_BENEATH),
                rule,
                ctypes.c_uint32(0),
            )
        )


@contextmanager
def _located(path: Path) -> Iterator[int]:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield place
    finally:
        os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> int:
    if status < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return status
