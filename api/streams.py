"""Limits on open event streams, each of which polls the database while it is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from paretofit.api.principal import LOCAL, Principal
from paretofit.api.problems import TooManyRequestsError

_RETRY_SECONDS: Final = "5"


class Streams:
    """Open streams of this process, at most `most` per key and its sessions (0: unlimited). Bound to one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, principal: Principal) -> Iterator[None]:
        """A stream is open during the block. Raises TooManyRequestsError."""
        who = principal.actor
        if principal is not LOCAL and 0 < self._most <= self._open[who]:
            raise TooManyRequestsError(
                f"this key has {self._most} open event streams, the maximum (PARETOFIT_MAX_EVENT_STREAMS): close one, "
                "or request pages of events without `Accept: text/event-stream`",
                headers={"Retry-After": _RETRY_SECONDS},
            )
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]
