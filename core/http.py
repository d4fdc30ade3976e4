"""Requests to URLs from users, such as a dataset's source or a webhook, protected against SSRF.

A host name is resolved once. The request is refused unless all of its addresses are allowed, and the connection goes to
an address that was checked, so DNS rebinding has no effect. Redirects are followed explicitly and checked like the
first request.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

if TYPE_CHECKING:
    from typing_extensions import Buffer

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_REDIRECTS = 3
MIN_BYTES_PER_SECOND = 32 * 1024
"""Transfer rate below which a response times out."""
_MAX_URL = 2048
_MAX_NAME = 253
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*", re.IGNORECASE)
_HTTPS_ONLY = "only https:// URLs are allowed: use https, or ask the operator to set PARETOFIT_OUTBOUND_NETWORKS"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Global unicast. Python calls some addresses outside of it global, such as site-local ones.
_UNICAST = ipaddress.ip_network("2000::/3")


class RefusedError(ValueError):
    """A URL or an address that is not allowed; the message has the reason."""


class ExchangeError(OSError):
    """The response is not valid HTTP, incomplete or too slow: worth a retry."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response whose body has not been read yet."""

    status: int
    headers: Mapping[str, str]
    _response: http.client.HTTPResponse = field(repr=False)

    def chunks(self, size: int = 64 * 1024) -> Iterator[bytes]:
        """The body in chunks of at most `size` bytes. Raises ExchangeError if it is truncated or too slow."""
        try:
            while chunk := self._response.read1(size):
                yield chunk
        except http.client.HTTPException as error:
            raise ExchangeError(f"the response is incomplete: {error!r}") from error
        # The standard library does not report a body that is shorter than its Content-Length.
        if self._response.length:
            raise ExchangeError(f"the response is incomplete: {self._response.length} bytes are missing")


def is_public(address: Address) -> bool:
    """Whether an address is public, including one that it embeds (IPv4-mapped, NAT64, 6to4, Teredo)."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or _nat64(address)
        if embedded is not None:
            return is_public(embedded)
        if address not in _UNICAST or not all(
            is_public(inner) for inner in (address.sixtofour, *(address.teredo or ())) if inner is not None
        ):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def check_url(url: str, networks: Sequence[Network] = ()) -> SplitResult:
    """Check a URL as far as possible without DNS, and return its parts.

    Only https is allowed, except for addresses in `networks` and for names that may resolve to one. Raises
    RefusedError.
    """
    if len(url) > _MAX_URL:
        raise RefusedError(f"the URL is too long: use at most {_MAX_URL} characters")
    if any(not 0x21 <= ord(letter) <= 0x7E for letter in url):
        raise RefusedError("the URL contains spaces, control characters or non-ASCII letters: percent-encode them")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RefusedError(f"invalid URL: {error}; use https://host/path") from error
    if parts.scheme not in {"https", "http"}:
        raise RefusedError("unsupported URL scheme: use https://")
    literal = None if host is None else _literal(host)
    named = host is not None and _NAME.fullmatch(host) is not None and len(host) <= _MAX_NAME
    if not (named or literal is not None) or parts.netloc.endswith(":") or port == 0 or "\\" in url:
        raise RefusedError("the URL has an invalid host or port: use https://host/path")
    if parts.username is not None or parts.password is not None:
        raise RefusedError("the URL contains a user name or password: remove them")
    plain = parts.scheme == "http"
    if literal is not None:
        _check_address(literal, networks, plain=plain)
    elif plain and not networks:
        raise RefusedError(_HTTPS_ONLY)
    return parts


def system_resolver(host: str, port: int) -> list[Address]:
    """The addresses of a host by the system's resolver. Raises OSError."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in entries]


def _dial(address: Address, port: int, timeout: float) -> socket.socket:
    return socket.create_connection((str(address), port), timeout)


@dataclass(frozen=True, slots=True)
class Outbound:
    """Client for URLs from users; `networks` are allowed in addition to the public Internet.

    `timeout` applies to each socket operation, in seconds. `total_timeout` applies to a whole response, plus the time
    that its bytes take at `MIN_BYTES_PER_SECOND`, so a server that trickles bytes cannot block the process.
    """

    networks: Sequence[Network] = ()
    timeout: float = 15.0
    total_timeout: float = 60.0
    resolve: Callable[[str, int], Sequence[Address]] = system_resolver
    dial: Callable[[Address, int, float], socket.socket] = _dial
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    @classmethod
    def to(cls, networks: Sequence[str], *, timeout: float = 15.0) -> Outbound:
        """A client for the public Internet and these networks."""
        return cls([ipaddress.ip_network(network) for network in networks], timeout)

    @contextmanager
    def get(self, url: str) -> Iterator[HttpResponse]:
        """The response to a GET, after at most three redirects. Raises RefusedError, OSError."""
        for _ in range(MAX_REDIRECTS + 1):
            with self._request("GET", url, {}, None) as response:
                location = response.headers.get("location")
                if response.status not in _REDIRECTS or location is None:
                    yield response
                    return
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise RefusedError(f"the server redirects to an invalid URL: {error}; use the final URL") from error
        raise RefusedError(f"the server redirects more than {MAX_REDIRECTS} times: use the final URL")

    @contextmanager
    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Iterator[HttpResponse]:
        """The response to a POST; redirects are not followed. Raises RefusedError, OSError."""
        with self._request("POST", url, headers, body) as response:
            yield response

    @contextmanager
    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Iterator[HttpResponse]:
        parts = check_url(url, self.networks)
        assert parts.hostname is not None
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        if parts.port is None and parts.scheme == "https":
            connection.default_port = 443
        sock = self._connect(host, port, plain=parts.scheme == "http")
        try:
            if parts.scheme == "https":
                sock = self.tls.wrap_socket(sock, server_hostname=host)
            connection.sock = _TimeLimitedSocket(sock, self.timeout, self.total_timeout)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, path, body, {"User-Agent": "paretofit", "Connection": "close", **headers})
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            yield HttpResponse(response.status, received, response)
        except http.client.HTTPException as error:
            raise ExchangeError(f"{host} sent an invalid HTTP response: {error!r}") from error
        finally:
            connection.close()
            sock.close()

    def _connect(self, host: str, port: int, *, plain: bool) -> socket.socket:
        literal = _literal(host)
        addresses = [literal] if literal is not None else list(self.resolve(host, port))
        if not addresses:
            raise OSError(f"{host} has no address")
        for address in addresses:
            _check_address(address, self.networks, plain=plain)
        return self.dial(addresses[0], port, self.timeout)


class _TimeLimitedSocket:
    """A socket for `http.client` with a total timeout. Its creator closes it."""

    def __init__(self, sock: socket.socket, timeout: float, total_timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout
        self._total_timeout = total_timeout

    def sendall(self, content: bytes) -> None:
        self._sock.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock, self._timeout, time.monotonic() + self._total_timeout))

    def close(self) -> None:
        pass


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a deadline, which each byte extends by 1 / `MIN_BYTES_PER_SECOND` seconds."""

    def __init__(self, sock: socket.socket, timeout: float, deadline: float) -> None:
        self._sock = sock
        self._timeout = timeout
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ExchangeError("the response is too slow")
        self._sock.settimeout(min(self._timeout, left))
        count = self._sock.recv_into(buffer)
        self._deadline += count / MIN_BYTES_PER_SECOND
        return count


def _check_address(address: Address, networks: Sequence[Network], *, plain: bool) -> None:
    """Check an address; `plain`: without TLS. Raises RefusedError."""
    if _within(address, networks):
        return
    if plain:
        raise RefusedError(_HTTPS_ONLY)
    if not is_public(address):
        raise RefusedError(
            f"{address} is not a public Internet address: use a public host, or ask the operator to add its network to "
            "PARETOFIT_OUTBOUND_NETWORKS"
        )


def _within(address: Address, networks: Sequence[Network]) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _literal(host: str) -> Address | None:
    """The address that a host literal denotes, in any notation that resolvers accept (such as 2130706433, 0x7f.1)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else None
