"""Time as the run has it."""

from __future__ import annotations

import time
from typing import Final

_LONGEST: Final = 15.0
"""Seconds between two looks at the watch after which this process, or the whole machine, must have been stopped."""


class Stopwatch:
    """Counts seconds, without those for which this process was stopped or the machine slept: nothing happened in
    them."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._seconds = 0.0

    def seconds(self) -> float:
        """Since the watch was made."""
        now = time.monotonic()
        self._seconds += min(now - self._seen, _LONGEST)
        self._seen = now
        return self._seconds
