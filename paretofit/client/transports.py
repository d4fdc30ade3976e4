"""The two kinds of transport: `SyncTransport`, whose coroutines never suspend, and `AsyncTransport`, for asyncio."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import httpx

from paretofit.client.transport import StreamResponse, Transport, refusal

P = ParamSpec("P")
R = TypeVar("R")
Item = TypeVar("Item")


class SyncTransport(Transport):
    """Waits where it is."""

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
                raise refusal(response)
            yield StreamResponse(response.status_code, _each(response.iter_bytes()), _each(response.iter_lines()))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def offload(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    def close(self) -> None:
        self._http.close()


class AsyncTransport(Transport):
    """Lets others run while it waits."""

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
                raise refusal(response)
            yield StreamResponse(response.status_code, response.aiter_bytes(), response.aiter_lines())

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def offload(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))

    async def close(self) -> None:
        await self._http.aclose()


async def _each(items: Iterable[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


def complete(awaitable: Awaitable[R]) -> R:
    """The result of a coroutine that does not suspend."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: R = stop.value
        return result
    steps.close()
    raise RuntimeError("this coroutine waits for an event loop")


def iterate(items: AsyncIterator[R]) -> Iterator[R]:
    """The items of an asynchronous generator that does not suspend; it is closed when the iteration ends."""
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
