"""A TCP proxy on the loopback interface that breaks connections on purpose."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx


class _Allowance:
    """Number of bytes that may pass before a connection is broken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: int | None = None
        self.passed = 0
        self.broken = 0

    def arm(self, size: int) -> None:
        with self._lock:
            self._left = size

    def take(self, size: int) -> int:
        """How many of `size` bytes may pass. If fewer, the connection breaks there; the next one is not limited."""
        with self._lock:
            allowed = size if self._left is None else min(size, self._left)
            if self._left is not None:
                self._left -= allowed
            if allowed < size:
                self._left = None
                self.broken += 1
            self.passed += allowed
            return allowed


class Proxy:
    """Forwards to the server at `target`; a context manager.

    `break_responses_after(n)` breaks one connection after `n` more bytes of responses; with 0 the request arrives and
    its whole response is lost. `break_requests_after(n)` does the same with the bytes of requests.
    """

    def __init__(self, target: str) -> None:
        url = httpx.URL(target)
        self._upstream = (url.host, url.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._responses = _Allowance()
        self._requests = _Allowance()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def response_bytes(self) -> int:
        """Bytes of responses that passed."""
        return self._responses.passed

    @property
    def broken(self) -> int:
        """Number of broken connections."""
        return self._responses.broken + self._requests.broken

    def break_responses_after(self, size: int) -> None:
        self._responses.arm(size)

    def break_requests_after(self, size: int) -> None:
        self._requests.arm(size)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            self._open += [client, server]
            self._start(self._pump, client, server, self._requests)
            self._start(self._pump, server, client, self._responses)

    def _pump(self, source: socket.socket, target: socket.socket, allowance: _Allowance) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                allowed = allowance.take(len(block))
                target.sendall(block[:allowed])
                if allowed < len(block):
                    _shut(source)
                    break
        _shut(target)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _shut(self._listener)
        self._listener.close()
        for connection in self._open:
            _shut(connection)
        for thread in self._threads:
            thread.join(10)
        for connection in self._open:
            connection.close()


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
