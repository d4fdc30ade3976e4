"""The C library's allocator, for a process that trains."""

from __future__ import annotations

import ctypes
from typing import Final

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_NEVER: Final = 2**31 - 1


def keep_freed_memory() -> None:
    """Have the process keep the memory of freed tensors for the next ones, until it ends.

    As it is set up, glibc gives the activations of each pass back to the system, which fills their pages with zeros for
    the next: a sixth of a step of a small network. Does nothing with other C libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
