"""Fuzz tests of all parsers of user input: they return a value or raise their documented error, nothing else."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import string
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.routing import RouteContext, iter_route_contexts
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.routing import Match

from paretofit.api import access, idempotency, paging, pointers, ranges
from paretofit.api.app import create_app
from paretofit.api.binding import is_loopback
from paretofit.api.changes import CloneChanges, SearchChanges
from paretofit.api.principal import _digest
from paretofit.api.problems import BadRequestError, InvalidError, UnsatisfiableRangeError
from paretofit.api.schemas.access import NewApiKey, NewQuota, Rotation, TenantId
from paretofit.api.schemas.exports import ExportRequest
from paretofit.api.schemas.webhooks import NewWebhook, WebhookChanges
from paretofit.api.security import _is_own, host_name
from paretofit.api.uploads import Part
from paretofit.client.numbers import parse_quantity, parse_seconds
from paretofit.client.sse import Parser
from paretofit.core import http
from paretofit.core.settings import Settings
from paretofit.db import keys
from paretofit.db.keyset import Keyset
from paretofit.models.architecture import Architecture
from paretofit.search.contracts.dataset import DatasetSpec
from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.data.archive import extract
from paretofit.search.data.images import BadImageError, decode, inspect
from paretofit.search.data.ingest import silent
from paretofit.search.data.limits import IngestLimits
from paretofit.search.data.rejection import RejectedError
from tests.api.fuzzing import fuzz_settings
from tests.search.data.archives import encoded, noise, pictures, tarred, zipped

ETAG = '"etag"'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
LATIN = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=80)


@pytest.fixture(scope="module")
def api_routes(tmp_path_factory: pytest.TempPathFactory) -> list[RouteContext]:
    """The routes that require a key if keys are enabled. The application connects to nothing before a request."""
    settings = Settings(
        home=tmp_path_factory.mktemp("api"),
        database_url="postgresql://localhost/none",
        redis_url="redis://localhost/0",
    )
    routes = iter_route_contexts(create_app(settings).routes)
    return [route for route in routes if (route.path or "").startswith(("/v1", "/metrics"))]


@fuzz_settings(100)
@given(st.text(max_size=80) | st.text(string.ascii_letters + string.digits + "pf_", min_size=60, max_size=68))
def test_keys_are_accepted_or_rejected(text: str) -> None:
    parsed = keys.parse(text)
    # The checksum rejects arbitrary text, except with negligible probability.
    assert parsed is None
    assert len(_digest(SecretStr(text))) == 32


@fuzz_settings(200)
@given(LATIN)
def test_hosts_and_origins(text: str) -> None:
    host = host_name(text)
    assert isinstance(is_loopback(host), bool)
    if is_loopback(host):
        assert host == "localhost" or ipaddress.ip_address(host).is_loopback
    if _is_own(text, Headers({"host": "search.example"})):
        assert urlsplit(text).netloc.lower() == "search.example"


@fuzz_settings(200)
@given(st.sampled_from(["GET", "POST", "PATCH", "BREW"]), st.text(max_size=60).map(lambda text: f"/{text}"))
@example("POST", "/v1")
@example("GET", "/v1/searches")
@example("POST", "/v1/searches/x/front/select/")
@example("POST", "/v1//searches/estimate")
def test_every_api_path_requires_a_key(api_routes: list[RouteContext], method: str, path: str) -> None:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    for route in api_routes:
        if route.matches(scope)[0] is not Match.NONE:
            assert access.requires_auth(path)


def test_writes_require_at_least_the_write_scope(api_routes: list[RouteContext]) -> None:
    for route in api_routes:
        scopes, path = access.required_scopes(route), route.path or ""
        if path == "/v1/session":
            assert scopes == []
        elif set(route.methods or ()) <= access.SAFE or path.endswith(("/estimate", "/front/select")):
            assert scopes
        else:
            assert set(scopes) & {"write", "manage", "admin"}


@fuzz_settings(200)
@given(LATIN, st.none() | LATIN)
@example("bytes 0-9/10", "10")
@example("bytes 5-4/10", None)
@example("bytes \u0660-\u0669/\u0661", None)
def test_content_ranges(content_range: str, length: str | None) -> None:
    try:
        part = Part.of(content_range, length)
    except BadRequestError:
        return
    assert part.start >= 0
    assert part.total is None or part.start < part.total


@fuzz_settings(200)
@given(
    st.from_regex(r"(bytes=)?[0-9]{0,4}-[0-9]{0,4}", fullmatch=True) | LATIN,
    st.integers(0, 300),
    st.none() | st.just(ETAG) | LATIN,
)
def test_ranges_are_within_the_content(given_range: str, size: int, if_range: str | None) -> None:
    headers = Headers({"range": given_range, **({} if if_range is None else {"if-range": if_range})})
    try:
        span = ranges.requested(headers, ETAG, size)
    except UnsatisfiableRangeError:
        return
    assert 0 <= span.start <= span.end <= size
    ranges.not_modified(Headers({"if-none-match": given_range}), ETAG)


def _cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@fuzz_settings(200)
@given(st.text(max_size=60) | JSON.map(_cursor))
@example(_cursor(["2026-01-01T00:00:00+00:00", "x"]))
@example(_cursor(["0001-01-01T00:00:00-23:59", "x"]))
@example(_cursor([1, 2]))
def test_cursors_are_accepted_or_rejected(text: str) -> None:
    for read in (paging.keyset, lambda cursor: paging.position(cursor, start=0)):
        try:
            position = read(text)
        except InvalidError:
            continue
        assert isinstance(position, int | Keyset)


@fuzz_settings(200)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bodies_under_an_idempotency_key(body: bytes) -> None:
    assert isinstance(idempotency._canonical(body), bytes)


@fuzz_settings(100)
@given(st.lists(st.text(max_size=5) | st.integers(0, 99), max_size=4))
def test_pointers(path: list[str | int]) -> None:
    text = pointers.pointer(path)
    assert text.count("/") == len(path)
    assert [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]] == [str(part) for part in path]


BODIES: tuple[type[BaseModel], ...] = (
    SearchSpec,
    DatasetSpec,
    SearchChanges,
    CloneChanges,
    ExportRequest,
    NewApiKey,
    Rotation,
    NewQuota,
    NewWebhook,
    WebhookChanges,
)
VALID: dict[str, Any] = {
    "name": "n",
    "dataset_id": "ds_1",
    "method": {"kind": "mutualnet", "widths": {"step": 0.25}},
    "source": {"kind": "upload"},
    "format": "onnx",
    "url": "https://a.example/",
    "constraints": [{"metric": "macs", "value": 1}],
    "limits": {"max_trials": 3},
    "labels": {"a": "b"},
    "scopes": ["read"],
}


@pytest.mark.parametrize("model", BODIES)
def test_request_bodies_are_valid_or_rejected(model: type[BaseModel]) -> None:
    names = sorted(model.model_fields)

    @fuzz_settings(80)
    @given(JSON, st.dictionaries(st.sampled_from(names), JSON, max_size=3), st.sampled_from(names))
    def bodies(anything: Any, changes: dict[str, Any], dropped: str) -> None:
        near = {name: value for name, value in VALID.items() if name in names} | changes
        less = {name: value for name, value in near.items() if name != dropped}
        for body in (anything, near, less):
            try:
                parsed = model.model_validate(body)
            except ValidationError as error:
                problems = pointers.field_problems(
                    [{**each, "loc": ("body", *each["loc"])} for each in error.errors()], body
                )
                assert problems
                assert all(problem.detail for problem in problems)
            else:
                assert isinstance(parsed.model_dump(mode="json"), dict)

    bodies()


@fuzz_settings(150)
@given(st.text(max_size=70))
def test_tenant_ids_are_accepted_or_rejected(text: str) -> None:
    try:
        name = TypeAdapter(TenantId).validate_python(text)
    except ValidationError:
        return
    assert name.isascii()
    assert not set(name) & set("/.\\ \0")


@fuzz_settings(400)
@given(
    st.text(max_size=60)
    | st.builds(
        "https://{}{}{}".format,
        st.from_regex(r"[0-9a-fx.:\[\]@%]{1,24}", fullmatch=True),
        st.sampled_from(["", ":443", ":", ":x", "@a.example"]),
        st.sampled_from(["", "/", "/x?y#z", "\\@b.example"]),
    )
)
def test_urls_are_accepted_or_rejected(url: str) -> None:
    try:
        parts = http.check_url(url)
    except http.RefusedError:
        return
    assert parts.scheme == "https"
    assert parts.hostname
    assert parts.username is None
    literal = http._literal(parts.hostname)
    assert literal is None or http.is_public(literal)


@fuzz_settings(300)
@given(st.integers(0, 2**32 - 1))
def test_all_notations_of_an_ipv4_address_are_equally_public(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    mapped = ipaddress.IPv6Address(f"::ffff:{plain}")
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + number)
    assert http.is_public(plain) == http.is_public(mapped) == http.is_public(translated)
    assert http._literal(str(number)) == http._literal(hex(number)) == plain
    if plain.is_private or plain.is_loopback or plain.is_link_local or plain.is_multicast:
        assert not http.is_public(plain)


@fuzz_settings(200)
@given(LATIN)
def test_cookies(header: str) -> None:
    assert isinstance(cookie_parser(header), dict)


@fuzz_settings(150)
@given(st.text(max_size=15))
def test_quantities_and_durations(text: str) -> None:
    for read in (parse_quantity, parse_seconds):
        try:
            assert read(text) >= 0
        except ValueError:
            continue


@fuzz_settings(150)
@given(JSON, st.dictionaries(st.sampled_from(["version", "blocks", "nominal", "channels"]), JSON))
def test_architectures(anything: Any, near: dict[str, Any]) -> None:
    for data in (anything, near, {"version": 1, **near}):
        try:
            Architecture.from_json(data)
        except ValueError:
            continue


@fuzz_settings(100)
@given(st.lists(st.text(max_size=30).map(lambda line: line.replace("\n", "")), max_size=8))
def test_event_streams_are_parsed_or_rejected(lines: list[str]) -> None:
    parser = Parser()
    assert all(event.type for line in lines if (event := parser.feed(line)) is not None)


SMALL = IngestLimits(max_entries=50, max_decompressed_bytes=2**20, ratio_floor_bytes=2**16, max_file_bytes=2**16)
CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6)


def _changed(content: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(content)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed[: max(1, len(changed) - cut)])


@pytest.fixture(scope="module")
def valid_archives(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Valid archives."""
    path = tmp_path_factory.mktemp("archives") / "archive"
    files = pictures({"cat": 2, "dog": 2}, size=(8, 8))
    archives = [zipped(path, files).read_bytes()]
    return archives + [tarred(path, files, kind).read_bytes() for kind in ("", "gz", "bz2", "xz")]


def test_archives(valid_archives: list[bytes], tmp_path: Path) -> None:
    @fuzz_settings(250)
    @given(st.integers(0, 4), CHANGES, st.integers(0, 200) | st.just(0))
    def archives(which: int, changes: list[tuple[int, int]], cut: int) -> None:
        _extract(_changed(valid_archives[which], changes, cut), tmp_path)

    archives()


@fuzz_settings(150)
@given(st.binary(max_size=600))
def test_arbitrary_bytes_as_an_archive(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _extract(content, Path(folder))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@fuzz_settings(100)
@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=4))
def test_names_in_archives(names: list[str]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError:
                assume(False)
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"x")
    with tempfile.TemporaryDirectory() as folder:
        _extract(buffer.getvalue(), Path(folder))
        assert {path.name for path in Path(folder).iterdir()} <= {"archive", "spool"}


def _extract(content: bytes, folder: Path) -> None:
    archive, spool = folder / "archive", folder / "spool"
    archive.write_bytes(content)
    try:
        extracted = extract(archive, spool, SMALL, silent)
    except RejectedError:
        return
    assert spool.stat().st_size <= SMALL.max_decompressed_bytes
    for image in extracted.images:
        assert ".." not in image.path
        assert not image.name.startswith("/")


@pytest.mark.filterwarnings("ignore:::PIL")
@fuzz_settings(250)
@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), CHANGES, st.integers(0, 100) | st.just(0))
def test_images_are_decoded_or_rejected(kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    content = _changed(encoded(noise(16, 16, 1), kind), changes, cut)
    try:
        header, decoded = inspect(content, 10_000), decode(content, 16, 3)
    except BadImageError:
        return
    assert header.sides[0] * header.sides[1] <= 10_000
    assert decoded.pixels.shape[0] == 3
