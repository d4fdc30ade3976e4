"""Following a search until it is over."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

import httpx

from paretofit.api.schemas.events import Event
from paretofit.api.schemas.searches import TERMINAL, Search
from paretofit.client.errors import ApiError
from paretofit.client.sse import Parser
from paretofit.client.transport import Backoff, Transport

_SILENCE: Final = 60.0
"""Seconds after which a silent event stream is taken for dead: the service sends a comment more often than that."""

_LAST: Final = frozenset(f"search.{state}" for state in TERMINAL)


async def events(transport: Transport, search_id: str, after: int) -> AsyncIterator[Event]:
    """What happens in a search, from event `after` + 1 on, until it is over. A lost connection is taken up again."""
    path = f"/v1/searches/{search_id}"
    retry_timeout = Backoff(transport)
    while True:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        before = after
        try:
            async with transport.stream("GET", f"{path}/events", headers=headers, timeout=_SILENCE) as answer:
                retry_timeout.renew()
                parser = Parser()
                async for line in answer.lines:
                    if (message := parser.take(line)) is None:
                        continue
                    event = Event.model_validate_json(message.data)
                    after = event.seq
                    yield event
                    if event.type in _LAST:
                        return
            if after == before and (await transport.read(Search, path)).state in TERMINAL:
                return
        except (httpx.TransportError, ApiError) as failure:
            await retry_timeout.wait(failure)


class Deadline:
    """`timeout` seconds from now, or never."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._at = None if timeout is None else time.monotonic() + timeout

    def check(self, what: str) -> None:
        """Raises TimeoutError once it is past; `what` is what goes on."""
        if self._at is not None and time.monotonic() > self._at:
            raise TimeoutError(f"{what} after {self._timeout:g} s")
