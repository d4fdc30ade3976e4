"""Notifications of search events: one Redis subscription per process wakes the streams, which also poll."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import structlog

from paretofit.db.events import CHANNEL

_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.api.event_notifications")

# Polling interval of a stream: notifications may be lost, and without Redis there are none.
_SUBSCRIBED_SECONDS = 2.0
_ALONE_SECONDS = 0.5
_RECONNECT_SECONDS = 1.0


class EventNotifications:
    """Bound to one event loop. After `close`, no stream waits."""

    def __init__(self, redis_url: str | None) -> None:
        self._redis_url = redis_url
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._subscribed = False
        self.closing = False

    @contextmanager
    def following(self, search_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when a search may have new events, until the end of the block."""
        news = asyncio.Event()
        self._waiting[search_id].add(news)
        try:
            yield news
        finally:
            self._waiting[search_id].discard(news)
            if not self._waiting[search_id]:
                del self._waiting[search_id]

    async def wait(self, news: asyncio.Event) -> None:
        """Wait until there may be new events, or until the polling interval has passed."""
        seconds = _SUBSCRIBED_SECONDS if self._subscribed else _ALONE_SECONDS
        try:
            async with asyncio.timeout(0 if self.closing else seconds):
                await news.wait()
        except TimeoutError:
            return
        news.clear()

    async def listen(self) -> None:
        """Forward messages from Redis for the lifetime of the process; reconnect while Redis is unavailable."""
        if self._redis_url is None:
            return
        # Imported in the background: it would delay startup by 0.1 s.
        await asyncio.to_thread(import_module, "redis.asyncio")
        from redis.exceptions import RedisError

        while not self.closing:
            try:
                await self._subscription(self._redis_url)
            except (RedisError, OSError) as error:
                if self._subscribed:
                    _log.warning("redis_lost", error=str(error))
                self._subscribed = False
                await asyncio.sleep(_RECONNECT_SECONDS)

    def close(self) -> None:
        """Wake every waiting stream."""
        self.closing = True
        self._wake(list(self._waiting))

    async def _subscription(self, url: str) -> None:
        from redis.asyncio import Redis

        async with (
            Redis.from_url(url, socket_connect_timeout=2, health_check_interval=10) as redis,
            redis.pubsub() as channel,
        ):
            await channel.subscribe(CHANNEL)
            self._subscribed = True
            # Messages sent before the subscription are lost: every stream polls once.
            self._wake(list(self._waiting))
            async for message in channel.listen():
                if message["type"] == "message":
                    self._wake([message["data"].decode()])

    def _wake(self, searches: list[str]) -> None:
        for search_id in searches:
            for news in self._waiting.get(search_id, ()):
                news.set()
