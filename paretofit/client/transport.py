"""HTTP to one service: what is safe to repeat is repeated, what the service refuses becomes an `ApiError`.

All of the client is written once, as coroutines over a `Transport`. Of its two kinds (`paretofit.client.transports`)
one never suspends, so that its coroutines can be run to their end by an ordinary call (`paretofit.client.calling`).
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
"""Statuses after which the same request may succeed."""

_PASSING = frozenset({"idempotency_in_flight", "upload_in_progress", "upload_offset"})
"""Codes of what an earlier attempt, its answer lost, may still be about."""

_LONGEST_PAUSE = 10.0


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """An answer whose body is still to come: read one of `blocks` and `lines`."""

    status: int
    blocks: AsyncIterator[bytes]
    lines: AsyncIterator[str]


class Transport(ABC):
    """One pool of connections. Every POST carries an Idempotency-Key, so that all requests may be repeated.

    A lost connection or a busy service is met with back-off for `retry_timeout` seconds; then `UnreachableError` or the
    service's last `ApiError` is raised.
    """

    suspends: ClassVar[bool]
    """Whether its coroutines wait for an event loop."""

    def __init__(self, url: str, key: str | None, *, retry_timeout: float, timeout: float) -> None:
        self.url = url.rstrip("/")
        self.retry_timeout = retry_timeout
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": timeout,
            "follow_redirects": True,
            # A proxy of the environment must not come between a client and the service on its own machine.
            "trust_env": not _is_loopback(httpx.URL(self.url).host),
        }

    @abstractmethod
    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One attempt of a request, answered whole. Raises httpx.TransportError when the connection breaks."""

    @abstractmethod
    def stream(
        self, method: str, path: str, *, content: AsyncIterator[bytes] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[StreamResponse]:
        """One attempt of a request whose body or answer is a stream; the caller repeats it from where it stopped.

        Raises ApiError, and httpx.TransportError when the connection breaks.
        """

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def offload(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what may take a while, such as reading a file, without keeping others waiting."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        idempotency_key: str | None = None,
    ) -> httpx.Response:
        """The service's answer, its status below 400. Raises ApiError and UnreachableError."""
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex} if method == "POST" else {}
        retry_timeout = Backoff(self)
        repeated = False
        while True:
            try:
                response = await self.send(method, path, json=json, params=params, headers=headers)
            except httpx.TransportError as error:
                await retry_timeout.wait(error)
            else:
                # The lost answer to a DELETE was its success.
                if response.status_code < 400 or (repeated and method == "DELETE" and response.status_code == 404):
                    return response
                await retry_timeout.wait(refusal(response), retry_after(response))
            repeated = True

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
        """The document that the service answers with. What is bound to a service (`paretofit.client.api_object`) is to
        this one."""
        response = await self.request(method, path, json=json, params=params, idempotency_key=idempotency_key)
        return kind.model_validate_json(response.content, context=self)


class Backoff:
    """Pauses between attempts, doubling, with jitter, until the transport's patience has passed since the first failure
    without success (`renew`)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.renew()

    def renew(self) -> None:
        """Something worked: the next failure is the first one."""
        self._deadline: float | None = None
        self._pause = 0.2

    async def wait(self, failure: httpx.TransportError | ApiError, at_least: float = 0.0) -> None:
        """Sleep before the next attempt. If there should be none, raises the failure, UnreachableError for a lost
        connection."""
        if isinstance(failure, ApiError) and not is_passing(failure):
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
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def refusal(response: httpx.Response) -> ApiError:
    """The problem document of an answer, or what can be said of an answer that holds none (of a proxy, say)."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"HTTP {response.status_code} {response.reason_phrase} from {response.url}"}
    return ApiError(response.status_code, problem)


def is_passing(failure: ApiError) -> bool:
    """Whether the same request may succeed a little later."""
    return failure.status in BUSY or failure.code in _PASSING


def retry_after(response: httpx.Response) -> float:
    """The pause in seconds that the service asks for, 0 if it names none."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def describe(error: httpx.TransportError) -> str:
    """A connection's failure in a few words."""
    return str(error) or type(error).__name__


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
