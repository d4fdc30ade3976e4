"""Settings of the C library's allocator for training processes."""

from __future__ import annotations

import ctypes
from typing import Final

# From <malloc.h> of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_NEVER: Final = 2**31 - 1


def keep_freed_memory() -> None:
    """Make the process keep the memory of freed tensors for reuse until it ends.

    By default glibc returns the activations of each pass to the system, which zeroes their pages for the next: a sixth
    of a step of a small network. No effect with other C libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
