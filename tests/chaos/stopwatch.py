"""The time of a run."""

from __future__ import annotations

import time
from typing import Final

_MAX_GAP_SECONDS: Final = 15.0
"""A longer gap between two readings means that this process, or the whole machine, was stopped."""


class Stopwatch:
    """Counts seconds, excluding times at which this process was stopped or the machine slept."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._seconds = 0.0

    def seconds(self) -> float:
        """The seconds since the stopwatch was created."""
        now = time.monotonic()
        self._seconds += min(now - self._seen, _MAX_GAP_SECONDS)
        self._seen = now
        return self._seconds
