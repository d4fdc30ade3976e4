"""HTTP requests to one service, with retries; rejected requests raise `ApiError`.

The whole client is written once, as coroutines over a `Transport`. The synchronous transport
(`paretofit.client.transports`) never suspends, so an ordinary call can run a coroutine to completion
(`paretofit.client.calling`).
"""

from __future__ import annotations

import ipaddress
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, TypeVar
from uuid import uuid4

import httpx
from pydantic import BaseModel

from paretofit.client.errors import ApiError, UnreachableError

P = ParamSpec("P")
R = TypeVar("R")
Model = TypeVar("Model", bound=BaseModel)

BUSY = frozenset({429, 502, 503, 504})
"""Status codes after which a retry may succeed."""

_RETRYABLE_CODES = frozenset({"idempotency_in_flight", "upload_in_progress", "upload_offset"})
"""Error codes that an earlier attempt with a lost response may cause."""

_MAX_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """A response with an unread body: read either `blocks` or `lines`."""

    status: int
    blocks: AsyncIterator[bytes]
    lines: AsyncIterator[str]


class Transport(ABC):
    """A connection pool. Every POST carries an Idempotency-Key, so every request is safe to retry.

    After a lost connection or a busy response, requests are retried with backoff for `retry_timeout` seconds. Then the
    call raises `UnreachableError` or the last `ApiError`.
    """

    suspends: ClassVar[bool]
    """Whether its coroutines need an event loop."""

    def __init__(self, url: str, key: str | None, *, retry_timeout: float, timeout: float) -> None:
        self.url = url.rstrip("/")
        self.retry_timeout = retry_timeout
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": timeout,
            "follow_redirects": True,
            # Never route requests to this machine through a proxy set in the environment.
            "trust_env": not _is_loopback(httpx.URL(self.url).host),
        }

    @abstractmethod
    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request once and read the whole response. Raises httpx.TransportError if the connection fails."""

    @abstractmethod
    def stream(
        self, method: str, path: str, *, content: AsyncIterator[bytes] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[StreamResponse]:
        """Send a request once, with a streamed body or response. The caller resumes it after a failure.

        Raises ApiError, and httpx.TransportError if the connection fails.
        """

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`."""

    @abstractmethod
    async def offload(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a blocking function, such as reading a file, without blocking an event loop."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        idempotency_key: str | None = None,
    ) -> httpx.Response:
        """Send a request, with retries. Returns a response with a status below 400.

        Raises ApiError and UnreachableError.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex} if method == "POST" else {}
        backoff = Backoff(self)
        retried = False
        while True:
            try:
                response = await self.send(method, path, json=json, params=params, headers=headers)
            except httpx.TransportError as error:
                await backoff.wait(error)
            else:
                # A retried DELETE gets 404 if the first attempt succeeded and its response was lost.
                if response.status_code < 400 or (retried and method == "DELETE" and response.status_code == 404):
                    return response
                await backoff.wait(api_error(response), retry_after(response))
            retried = True

    async def read(
        self,
        kind: type[Model],
        path: str,
        *,
        method: str = "GET",
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        idempotency_key: str | None = None,
    ) -> Model:
        """Send a request and parse the response as a `kind`. An `ApiObject` keeps this transport for its methods."""
        response = await self.request(method, path, json=json, params=params, idempotency_key=idempotency_key)
        return kind.model_validate_json(response.content, context=self)


class Backoff:
    """Exponential backoff with jitter. It ends `retry_timeout` seconds after the first failure since `renew`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.renew()

    def renew(self) -> None:
        """Reset after progress: the next failure counts as the first."""
        self._deadline: float | None = None
        self._pause = 0.2

    async def wait(self, failure: httpx.TransportError | ApiError, at_least: float = 0.0) -> None:
        """Sleep before the next attempt, for `at_least` seconds.

        If the failure is permanent or time is up, raises it, as UnreachableError for a lost connection.
        """
        if isinstance(failure, ApiError) and not is_retryable(failure):
            raise failure
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._transport.retry_timeout
        pause = max(at_least, self._pause * random.uniform(0.75, 1.25))
        if now + pause > self._deadline:
            if isinstance(failure, ApiError):
                raise failure
            raise UnreachableError(self._transport.url, describe(failure)) from failure
        await self._transport.sleep(pause)
        self._pause = min(2 * self._pause, _MAX_PAUSE_SECONDS)


def api_error(response: httpx.Response) -> ApiError:
    """The ApiError of a response: from its problem document, or from the status line if there is none."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"HTTP {response.status_code} {response.reason_phrase} from {response.url}"}
    return ApiError(response.status_code, problem)


def is_retryable(failure: ApiError) -> bool:
    """Whether a retry of the same request may succeed."""
    return failure.status in BUSY or failure.code in _RETRYABLE_CODES


def retry_after(response: httpx.Response) -> float:
    """The value of Retry-After in seconds, 0 without one."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def describe(error: httpx.TransportError) -> str:
    """A short description of a connection failure."""
    return str(error) or type(error).__name__


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
