"""Identifiers: a prefix for the kind of resource and a UUIDv7, so that ids sort by creation time."""

from __future__ import annotations

import os
import time


def new_id(prefix: str) -> str:
    """`prefix_` + 32 hex digits of a UUID version 7 (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | (random & (2**62 - 1))
    return f"{prefix}_{value:032x}"
