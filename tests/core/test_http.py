"""URLs from users: which are allowed, and that the connection goes to the checked address."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from paretofit.core.http import (
    MIN_BYTES_PER_SECOND,
    Address,
    ExchangeError,
    Outbound,
    RefusedError,
    check_url,
    is_public,
    system_resolver,
)

PUBLIC = ipaddress.ip_address("93.184.215.14")
ELSEWHERE = ipaddress.ip_address("151.101.1.69")
NAMES = ("data.example", "other.example", "inside.example", "turning.example")


class _Handler(BaseHTTPRequestHandler):
    """`/to?URL` redirects there; the response to any other request is its host and path."""

    def do_GET(self) -> None:
        kind, _, target = self.path.partition("?")
        if kind == "/to":
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = f"{self.headers['Host']} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@dataclass
class FakeInternet:
    """A fake name server and Internet on loopback: one server responds on every address."""

    port: int
    tls: ssl.SSLContext
    answers: Mapping[str, Sequence[Sequence[Address]]] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)
    dialed: list[Address] = field(default_factory=list)

    def resolve(self, host: str, port: int) -> Sequence[Address]:
        if host not in self.answers:
            # Not a host name: the system parses the notation without a name server.
            return system_resolver(host, port)
        answers = self.answers[host]
        self.lookups.append(host)
        return answers[min(self.lookups.count(host), len(answers)) - 1]

    def dial(self, address: Address, port: int, timeout: float) -> socket.socket:
        self.dialed.append(address)
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def read(self, url: str) -> bytes:
        outbound = Outbound(resolve=self.resolve, dial=self.dial, tls=self.tls, timeout=5)
        with outbound.get(url) as response:
            assert response.status == 200
            return b"".join(response.chunks())


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, ssl.SSLContext]]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)
    with _serving(context) as port:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        yield port, trusting


@contextmanager
def _serving(context: ssl.SSLContext) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def internet(server: tuple[int, ssl.SSLContext]) -> FakeInternet:
    loopback = ipaddress.ip_address("127.0.0.1")
    return FakeInternet(
        *server,
        answers={
            "data.example": [[PUBLIC]],
            "other.example": [[ELSEWHERE]],
            "inside.example": [[loopback]],
            "turning.example": [[PUBLIC], [loopback]],
            "both.example": [[PUBLIC, loopback]],
            "link-local.example": [[ipaddress.ip_address("169.254.169.254")]],
            "mapped.example": [[ipaddress.ip_address("::ffff:10.0.0.1")]],
            "nowhere.example": [[]],
        },
    )


NOT_PUBLIC = (
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b:1::7f00:1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_private_addresses_are_not_public(address: str, internet: FakeInternet) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(RefusedError):
        internet.read(f"https://{f'[{address}]' if ':' in address else address}/")
    assert internet.dialed == []


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_internet_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "017700000001",
        "3232235777",
        "0",
        "0xa9fea9fe",
        "localhost",
    ],
)
def test_other_notations_of_private_addresses_are_refused(host: str, internet: FakeInternet) -> None:
    with pytest.raises(RefusedError, match="not a public Internet address"):
        internet.read(f"https://{host}/archive.zip")
    assert internet.dialed == []


@pytest.mark.parametrize("host", ["inside.example", "both.example", "link-local.example", "mapped.example"])
def test_names_of_private_addresses_are_refused(host: str, internet: FakeInternet) -> None:
    with pytest.raises(RefusedError, match="not a public Internet address"):
        internet.read(f"https://{host}/archive.zip")
    assert internet.dialed == []


def test_connection_goes_to_the_checked_address(internet: FakeInternet) -> None:
    assert internet.read("https://turning.example/a?b=c") == b"turning.example /a?b=c"
    assert internet.lookups == ["turning.example"]
    assert internet.dialed == [PUBLIC]
    # The second lookup returns another address, which is checked again.
    with pytest.raises(RefusedError):
        internet.read("https://turning.example/a?b=c")
    assert internet.dialed == [PUBLIC]


def test_redirects_are_followed_and_each_is_checked(internet: FakeInternet) -> None:
    assert internet.read("https://data.example/to?https://other.example/x.zip") == b"other.example /x.zip"
    assert internet.read("https://data.example/to?/x.zip") == b"data.example /x.zip"
    assert internet.dialed == [PUBLIC, ELSEWHERE, PUBLIC, PUBLIC]


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://inside.example/",
        "https://169.254.169.254/latest/meta-data/",
        "http://other.example/",
        "ftp://other.example/",
        "file:///etc/passwd",
        "//127.0.0.1/",
        "https://[",
        "https://data.example/to?https://inside.example/",
    ],
)
def test_redirects_to_private_addresses_are_refused(target: str, internet: FakeInternet) -> None:
    with pytest.raises(RefusedError):
        internet.read(f"https://data.example/to?{target}")
    assert set(internet.dialed) == {PUBLIC}


def test_redirects_are_limited_to_three(internet: FakeInternet) -> None:
    def url(redirects: int) -> str:
        return "https://data.example/to?" * redirects + "https://data.example/x"

    assert internet.read(url(3)) == b"data.example /x"
    with pytest.raises(RefusedError, match="more than 3 times"):
        internet.read(url(4))
    assert len(internet.dialed) == 8


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://data.example/",
        "file:///etc/passwd",
        "gopher://data.example/",
        "https://",
        "https:///x",
        "https://user@data.example/",
        "https://user:word@data.example/",
        "https://data.example:0/",
        "https://data.example:99999/",
        "https://data.example:/",
        "https://data.example\\@inside.example/",
        "https://data.example/\r\nHost: inside.example",
        "https://data example/",
        "https://dätä.example/",
        "https://[::1",
        "https://.data.example/",
        "https://data..example/",
        "https://data.example./",
        "https://-x/",
        f"https://{'x' * 64}.example/",
        f"https://{'x.' * 200}example/",
        "https://?/",
        "https://[fe80::1%25eth0]/",
        "https://data.example/" + "x" * 3000,
    ],
)
def test_invalid_urls_are_refused(url: str, internet: FakeInternet) -> None:
    with pytest.raises(RefusedError):
        check_url(url)
    with pytest.raises(RefusedError):
        internet.read(url)
    assert internet.dialed == []


def test_certificate_of_another_name_is_rejected(internet: FakeInternet) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Outbound(resolve=lambda *_: [PUBLIC], dial=internet.dial, tls=internet.tls).get(
            "https://bank.example/"
        ).__enter__()


def test_host_without_an_address_raises(internet: FakeInternet) -> None:
    with pytest.raises(OSError, match="has no address"):
        internet.read("https://nowhere.example/")


def test_networks_of_the_operator_are_allowed(internet: FakeInternet) -> None:
    networks = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
    for url in ("http://127.0.0.1:80/", "https://127.0.0.1/", "http://[fd00::1]/", "http://[::ffff:127.0.0.1]/"):
        check_url(url, networks)
    for url in ("http://10.0.0.1/", "https://10.0.0.1/", "http://93.184.215.14/", "http://[fe80::1]/"):
        with pytest.raises(RefusedError):
            check_url(url, networks)
    # For host names, plain http is allowed only within these networks.
    outbound = Outbound(networks, resolve=internet.resolve, dial=internet.dial, timeout=5)
    with pytest.raises(RefusedError, match="only https"):
        outbound.get("http://data.example/").__enter__()
    assert internet.dialed == []
    with pytest.raises((ExchangeError, ConnectionError)), outbound.get("http://inside.example/"):
        pass  # The server there speaks TLS.
    assert internet.dialed == [ipaddress.ip_address("127.0.0.1")]


@contextmanager
def _sending(parts: Iterable[bytes]) -> Iterator[str]:
    """The URL of a loopback server that sends these parts to its first client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.recv(1000)
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def _body(url: str, total_timeout: float = 60.0) -> bytes:
    local = Outbound([ipaddress.ip_network("127.0.0.0/8")], total_timeout=total_timeout)
    with local.get(url) as response:
        return b"".join(response.chunks())


def test_invalid_http_response_raises() -> None:
    with _sending([b"what?\r\n\r\n"]) as url, pytest.raises(ExchangeError):
        _body(url)


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ([HEAD, b"Content-Length: 4\r\n\r\n", b"wh", b"ole"], b"whol"),
        ([HEAD, b"Content-Length: 0\r\n\r\n"], b""),
        ([HEAD, b"\r\n", b"to its end"], b"to its end"),
        ([HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n"], b"abc"),
    ],
)
def test_body_matches_its_announced_length(parts: list[bytes], body: bytes) -> None:
    with _sending(parts) as url:
        assert _body(url) == body


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD, b"Content-Length: 100\r\n\r\n", b"only this"],
        [HEAD, b"Content-Length: 100\r\n\r\n"],
        [HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"f\r\nonly this"],
        [HEAD[:5]],
    ],
)
def test_incomplete_response_raises(parts: list[bytes]) -> None:
    with _sending(parts) as url, pytest.raises(ExchangeError):
        _body(url)


@pytest.mark.parametrize("head", [HEAD + b"X-Slow: ", HEAD + b"\r\n"], ids=["head", "body"])
def test_trickling_server_times_out(head: bytes) -> None:
    def drip() -> Iterator[bytes]:
        yield head
        while True:
            time.sleep(0.05)
            yield b"."

    began = time.monotonic()
    with _sending(drip()) as url:
        with pytest.raises((ExchangeError, TimeoutError)):
            _body(url, total_timeout=0.5)
        assert 0.4 < time.monotonic() - began < 3


def test_slow_but_steady_server_is_accepted() -> None:
    def steady() -> Iterator[bytes]:
        yield HEAD + b"\r\n"
        for _ in range(10):
            time.sleep(0.1)
            yield bytes(MIN_BYTES_PER_SECOND // 5)

    with _sending(steady()) as url:
        assert len(_body(url, total_timeout=0.5)) == MIN_BYTES_PER_SECOND // 5 * 10
