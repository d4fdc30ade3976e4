"""Who waits for a search's events is woken by one subscription of the process with Redis, and looks by itself
besides."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import structlog

from paretofit.db.events import CHANNEL

_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.api.event_notifications")

# How long a stream waits before it looks into the database: notifications may be lost, and without Redis there are
# none.
_SUBSCRIBED_SECONDS = 2.0
_ALONE_SECONDS = 0.5
_RECONNECT_SECONDS = 1.0


class EventNotifications:
    """Lives in one event loop. After `close` nobody waits any more."""

    def __init__(self, redis_url: str | None) -> None:
        self._redis_url = redis_url
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._subscribed = False
        self.closing = False

    @contextmanager
    def following(self, search_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when something may have happened in a search, from now until the end of the block."""
        news = asyncio.Event()
        self._waiting[search_id].add(news)
        try:
            yield news
        finally:
            self._waiting[search_id].discard(news)
            if not self._waiting[search_id]:
                del self._waiting[search_id]

    async def wait(self, news: asyncio.Event) -> None:
        """Until there may be news, or it is time to look for some."""
        seconds = _SUBSCRIBED_SECONDS if self._subscribed else _ALONE_SECONDS
        try:
            async with asyncio.timeout(0 if self.closing else seconds):
                await news.wait()
        except TimeoutError:
            return
        news.clear()

    async def listen(self) -> None:
        """Pass on what Redis says, for as long as the process lives; wait for Redis while it is away."""
        if self._redis_url is None:
            return
        # Beside the first requests: it would delay the start by a tenth of a second.
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
        """Let everybody who waits go."""
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
            # What was said before is lost: everybody looks once.
            self._wake(list(self._waiting))
            async for message in channel.listen():
                if message["type"] == "message":
                    self._wake([message["data"].decode()])

    def _wake(self, searches: list[str]) -> None:
        for search_id in searches:
            for news in self._waiting.get(search_id, ()):
                news.set()
