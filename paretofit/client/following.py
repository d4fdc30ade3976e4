"""The event stream of a search, and deadlines."""

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

_READ_TIMEOUT: Final = 60.0
"""Seconds without data after which an event stream is reconnected; the service sends keep-alive comments more often."""

_FINAL_EVENTS: Final = frozenset(f"search.{state}" for state in TERMINAL)


async def events(transport: Transport, search_id: str, after: int) -> AsyncIterator[Event]:
    """The events of a search from sequence number `after` + 1, until it has ended. Reconnects a lost stream."""
    path = f"/v1/searches/{search_id}"
    backoff = Backoff(transport)
    while True:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        before = after
        try:
            async with transport.stream("GET", f"{path}/events", headers=headers, timeout=_READ_TIMEOUT) as response:
                backoff.renew()
                parser = Parser()
                async for line in response.lines:
                    if (message := parser.feed(line)) is None:
                        continue
                    event = Event.model_validate_json(message.data)
                    after = event.seq
                    yield event
                    if event.type in _FINAL_EVENTS:
                        return
            if after == before and (await transport.read(Search, path)).state in TERMINAL:
                return
        except (httpx.TransportError, ApiError) as failure:
            await backoff.wait(failure)


class Deadline:
    """A deadline `timeout` seconds from now; None means no deadline."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._at = None if timeout is None else time.monotonic() + timeout

    def check(self, status: str) -> None:
        """Raise TimeoutError after the deadline; `status` says what is still pending."""
        if self._at is not None and time.monotonic() > self._at:
            raise TimeoutError(f"{status} after {self._timeout:g} s")
