"""Requests to addresses that users name, such as a dataset's URL or a webhook.

A host name is resolved once; only if every address that it has may be reached is the connection made, and then to the
address that was checked, so that a second answer of the name server changes nothing. Redirects are followed by hand and
checked like the first request.
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
SLOWEST = 32 * 1024
"""Bytes per second below which an answer is given up."""
_MAX_URL = 2048
_MAX_NAME = 253
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*", re.IGNORECASE)
_HTTPS_ONLY = "only https:// is asked"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Where the addresses of the Internet are; outside of it are some that Python calls global, such as site-local ones.
_UNICAST = ipaddress.ip_network("2000::/3")


class RefusedError(ValueError):
    """An address that may not be asked; the message says why."""


class ExchangeError(OSError):
    """The other side does not speak HTTP as it should: worth another try."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    _response: http.client.HTTPResponse = field(repr=False)

    def chunks(self, size: int = 64 * 1024) -> Iterator[bytes]:
        """The body as it arrives, at most `size` bytes at once. Raises ExchangeError if it ends too early or is too
        slow."""
        try:
            while chunk := self._response.read1(size):
                yield chunk
        except http.client.HTTPException as error:
            raise ExchangeError(f"the answer broke off: {error!r}") from error
        # What the standard library takes for the end of a body whose length was announced.
        if self._response.length:
            raise ExchangeError(f"the answer broke off: {self._response.length} bytes of it are missing")


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet, also if it hides another one (IPv4-mapped, NAT64, 6to4,
    Teredo)."""
    if isinstance(address, IPv6Address):
        stands_for = address.ipv4_mapped or _nat64(address)
        if stands_for is not None:
            return is_public(stands_for)
        if address not in _UNICAST or not all(
            is_public(inner) for inner in (address.sixtofour, *(address.teredo or ())) if inner is not None
        ):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def check_url(url: str, networks: Sequence[Network] = ()) -> SplitResult:
    """The parts of a URL that may be asked, as far as that can be told without a name server.

    https only, but for addresses of `networks` and for names that may turn out to have one. Raises RefusedError.
    """
    if len(url) > _MAX_URL:
        raise RefusedError(f"a URL has {_MAX_URL} characters at most")
    if any(not 0x21 <= ord(letter) <= 0x7E for letter in url):
        raise RefusedError("a URL has no spaces, control characters or letters beyond ASCII: encode them")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RefusedError(f"this is no URL: {error}") from error
    if parts.scheme not in {"https", "http"}:
        raise RefusedError("a URL begins with https://")
    literal = None if host is None else _literal(host)
    named = host is not None and _NAME.fullmatch(host) is not None and len(host) <= _MAX_NAME
    if not (named or literal is not None) or parts.netloc.endswith(":") or port == 0 or "\\" in url:
        raise RefusedError("the URL names no host and port that can be asked")
    if parts.username is not None or parts.password is not None:
        raise RefusedError("a URL holds no user name and no password")
    plain = parts.scheme == "http"
    if literal is not None:
        _check_address(literal, networks, plain=plain)
    elif plain and not networks:
        raise RefusedError(_HTTPS_ONLY)
    return parts


def system_resolver(host: str, port: int) -> list[Address]:
    """What the system's resolver says. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


def _dial(address: Address, port: int, timeout: float) -> socket.socket:
    return socket.create_connection((str(address), port), timeout)


@dataclass(frozen=True, slots=True)
class Outbound:
    """How users' addresses are asked; `networks` may be reached besides the public Internet. `timeout` is for each
    operation of a socket, seconds; `total_timeout` for the whole of an answer, besides what its bytes take at
    `SLOWEST`: who sends one now and then would hold the process otherwise."""

    networks: Sequence[Network] = ()
    timeout: float = 15.0
    total_timeout: float = 60.0
    resolve: Callable[[str, int], Sequence[Address]] = system_resolver
    dial: Callable[[Address, int, float], socket.socket] = _dial
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    @classmethod
    def to(cls, networks: Sequence[str], *, timeout: float = 15.0) -> Outbound:
        """To the public Internet and these networks."""
        return cls([ipaddress.ip_network(network) for network in networks], timeout)

    @contextmanager
    def get(self, url: str) -> Iterator[HttpResponse]:
        """The answer to a GET, after at most three redirects. Raises RefusedError, OSError."""
        for _ in range(MAX_REDIRECTS + 1):
            with self._ask("GET", url, {}, None) as answer:
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or location is None:
                    yield answer
                    return
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise RefusedError(f"it redirects to what is no URL: {error}") from error
        raise RefusedError(f"it redirects more than {MAX_REDIRECTS} times")

    @contextmanager
    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Iterator[HttpResponse]:
        """The answer to a POST; no redirect is followed. Raises RefusedError, OSError."""
        with self._ask("POST", url, headers, body) as answer:
            yield answer

    @contextmanager
    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Iterator[HttpResponse]:
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
            connection.sock = _Paced(sock, self.timeout, self.total_timeout)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, path, body, {"User-Agent": "paretofit", "Connection": "close", **headers})
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            yield HttpResponse(response.status, answered, response)
        except http.client.HTTPException as error:
            raise ExchangeError(f"{host} does not answer in HTTP: {error!r}") from error
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


class _Paced:
    """A socket as `http.client` uses one. It is closed by whoever made it."""

    def __init__(self, sock: socket.socket, timeout: float, total_timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout
        self._total_timeout = total_timeout

    def sendall(self, content: bytes) -> None:
        self._sock.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Arriving(self._sock, self._timeout, time.monotonic() + self._total_timeout))

    def close(self) -> None:
        pass


class _Arriving(io.RawIOBase):
    """What a socket receives, until it is too late: each byte that arrives moves that on by 1 / `SLOWEST` seconds."""

    def __init__(self, sock: socket.socket, timeout: float, until: float) -> None:
        self._sock = sock
        self._timeout = timeout
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise ExchangeError("the answer takes too long")
        self._sock.settimeout(min(self._timeout, left))
        count = self._sock.recv_into(buffer)
        self._until += count / SLOWEST
        return count


def _check_address(address: Address, networks: Sequence[Network], *, plain: bool) -> None:
    """`plain`: by http. Raises RefusedError."""
    if _within(address, networks):
        return
    if plain:
        raise RefusedError(_HTTPS_ONLY)
    if not is_public(address):
        raise RefusedError(
            f"{address} is no address of the public Internet (PARETOFIT_OUTBOUND_NETWORKS can name others)"
        )


def _within(address: Address, networks: Sequence[Network]) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _literal(host: str) -> Address | None:
    """The address that a host is, in whatever notation a resolver would take it for one (such as 2130706433,
    0x7f.1)."""
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
