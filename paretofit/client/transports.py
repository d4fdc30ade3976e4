"""The transports: `SyncTransport`, whose coroutines never suspend, and `AsyncTransport` for asyncio."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import httpx

from paretofit.client.transport import StreamResponse, Transport, api_error

P = ParamSpec("P")
R = TypeVar("R")
Item = TypeVar("Item")


class SyncTransport(Transport):
    """Blocks the calling thread. Its coroutines never suspend."""

    suspends = False

    def __init__(self, url: str, key: str | None, *, retry_timeout: float, timeout: float) -> None:
        super().__init__(url, key, retry_timeout=retry_timeout, timeout=timeout)
        self._http = httpx.Client(**self._options)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._http.request(method, path, **options)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, content: AsyncIterator[bytes] | None = None, **options: Any
    ) -> AsyncIterator[StreamResponse]:
        body = None if content is None else iterate(content)
        with self._http.stream(method, path, content=body, **options) as response:
            if response.status_code >= 400:
                response.read()
                raise api_error(response)
            yield StreamResponse(
                response.status_code, _as_async(response.iter_bytes()), _as_async(response.iter_lines())
            )

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def offload(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    def close(self) -> None:
        self._http.close()


class AsyncTransport(Transport):
    """Suspends its coroutines while waiting, for asyncio."""

    suspends = True

    def __init__(self, url: str, key: str | None, *, retry_timeout: float, timeout: float) -> None:
        super().__init__(url, key, retry_timeout=retry_timeout, timeout=timeout)
        self._http = httpx.AsyncClient(**self._options)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self._http.request(method, path, **options)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, content: AsyncIterator[bytes] | None = None, **options: Any
    ) -> AsyncIterator[StreamResponse]:
        async with self._http.stream(method, path, content=content, **options) as response:
            if response.status_code >= 400:
                await response.aread()
                raise api_error(response)
            yield StreamResponse(response.status_code, response.aiter_bytes(), response.aiter_lines())

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def offload(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))

    async def close(self) -> None:
        await self._http.aclose()


async def _as_async(items: Iterable[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


def complete(awaitable: Awaitable[R]) -> R:
    """Run a coroutine that never suspends and return its result. Raises RuntimeError if it suspends."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: R = stop.value
        return result
    steps.close()
    raise RuntimeError("the coroutine suspended; await it in an event loop")


def iterate(items: AsyncIterator[R]) -> Iterator[R]:
    """Iterate over an asynchronous generator that never suspends, and close it at the end."""
    try:
        while True:
            try:
                item = complete(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            complete(close())
