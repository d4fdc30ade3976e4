"""HTTP to one service: what is safe to repeat is repeated, what the service refuses becomes an `ApiError`."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from paretofit.errors import ApiError, UnreachableError

BUSY = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""

_PASSING = frozenset({"idempotency_in_flight", "upload_in_progress", "upload_offset"})
"""Codes of what an earlier attempt, its answer lost, may still be about."""

_LONGEST_PAUSE = 10.0


class Transport:
    """One pool of connections. Every POST carries an Idempotency-Key, so that all requests may be repeated.

    A lost connection or a busy service is met with back-off for `patience` seconds; then `UnreachableError` or the
    service's last `ApiError` is raised.
    """

    def __init__(self, url: str, key: str | None, *, patience: float, timeout: float) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # A proxy of the environment must not come between a client and the service on its own machine.
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=timeout,
            follow_redirects=True,
            trust_env=not _is_loopback(httpx.URL(self.url).host),
        )

    def close(self) -> None:
        self._http.close()

    def request(
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
        patience = Patience(self.patience)
        repeated = False
        while True:
            try:
                response = self._http.request(method, path, json=json, params=params, headers=headers)
            except httpx.TransportError as error:
                if not patience.wait():
                    raise UnreachableError(self.url, describe(error)) from error
            else:
                # The lost answer to a DELETE was its success.
                if response.status_code < 400 or (repeated and method == "DELETE" and response.status_code == 404):
                    return response
                failure = refusal(response)
                if not (is_passing(failure) and patience.wait(retry_after(response))):
                    raise failure
            repeated = True

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """One attempt of a request whose body or answer is a stream; the caller repeats it from where it stopped.

        Raises ApiError, and httpx.TransportError when the connection breaks.
        """
        with self._http.stream(method, path, **options) as response:
            if response.status_code >= 400:
                response.read()
                raise refusal(response)
            yield response


class Patience:
    """Pauses between attempts, doubling, with jitter, until `seconds` have passed since the first failure without
    success (`renew`)."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Something worked: the next failure is the first one."""
        self._deadline: float | None = None
        self._pause = 0.2

    def wait(self, at_least: float = 0.0) -> bool:
        """Sleep before the next attempt; false when there should be none."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._seconds
        pause = max(at_least, self._pause * random.uniform(0.75, 1.25))
        if now + pause > self._deadline:
            return False
        time.sleep(pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True


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
