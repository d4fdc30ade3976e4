"""Artifacts over HTTP: metadata, whole and partial downloads, damage."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from paretofit.db.blobs import CHUNK, open_store
from tests.api import rows
from tests.api.process import Api
from tests.api.test_problems import problem

CONTENT = bytes(range(256)) * 5000


@dataclass(frozen=True)
class Stored:
    """An artifact and the file that holds it."""

    id: str
    sha256: str
    path: Path

    @property
    def url(self) -> str:
        return f"/v1/artifacts/{self.id}/content"


def keep(api: Api, engine: Engine, content: bytes, name: str = "w0.5 r24.safetensors") -> Stored:
    """An artifact with this content."""
    search_id = rows.search(engine, rows.ready_dataset(engine))
    source = api.home / "source"
    source.write_bytes(content)
    blob = open_store((api.home / "blobs").as_uri()).put(source)
    trial_id = rows.trial(engine, search_id)
    artifact_id = rows.artifact(engine, search_id, trial_id, name=name, sha256=blob.sha256, size=blob.size)
    return Stored(artifact_id, blob.sha256, api.home / "blobs" / blob.sha256[:2] / blob.sha256)


@pytest.fixture(scope="module")
def artifact(api: Api, stored: Engine) -> Stored:
    return keep(api, stored, CONTENT)


def test_artifact_metadata(http: httpx.Client, artifact: Stored) -> None:
    found = http.get(f"/v1/artifacts/{artifact.id}").json()
    assert (found["sha256"], found["size"]) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_the_whole_file(http: httpx.Client, artifact: Stored) -> None:
    answer = http.get(artifact.url)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["ETag"] == f'"{artifact.sha256}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert 'filename="w0.5 r24.safetensors"' in answer.headers["Content-Disposition"]
    head = http.head(artifact.url)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type", "Content-Disposition"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("given", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=1279990-", 1_279_990, 1_280_000),
        ("bytes=-10", 1_279_990, 1_280_000),
        ("bytes=1000-99999999", 1000, 1_280_000),
    ],
)
def test_a_range(http: httpx.Client, artifact: Stored, given: str, start: int, end: int) -> None:
    for condition in ({}, {"If-Range": f'"{artifact.sha256}"'}):
        answer = http.get(artifact.url, headers={"Range": given, **condition})
        assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
        assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize(
    "given", ["bytes=9-5", "bytes=-", "bytes=a-b", "items=0-5", "bytes=0-1,5-9", "bytes=-99999999"]
)
def test_unsupported_ranges_get_the_full_content(http: httpx.Client, artifact: Stored, given: str) -> None:
    answer = http.get(artifact.url, headers={"Range": given})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_range_of_another_content_gets_the_whole(http: httpx.Client, artifact: Stored) -> None:
    answer = http.get(artifact.url, headers={"Range": "bytes=0-4", "If-Range": '"other"'})
    assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


@pytest.mark.parametrize("given", ["bytes=1280000-", "bytes=9999999-99999999", "bytes=-0"])
def test_a_range_outside(http: httpx.Client, artifact: Stored, given: str) -> None:
    answer = http.get(artifact.url, headers={"Range": given})
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("given", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_a_client_that_has_it_gets_nothing(http: httpx.Client, artifact: Stored, given: str) -> None:
    answer = http.get(artifact.url, headers={"If-None-Match": given.format(artifact.sha256)})
    assert (answer.status_code, answer.content) == (304, b"")


def test_a_name_is_sent_safely(api: Api, stored: Engine) -> None:
    artifact = keep(api, stored, b"x", name='a"b\r\nSet-Cookie: x/é.bin')
    answer = api.http.get(artifact.url)
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"a_b__Set-Cookie_ x__.bin\"; filename*=UTF-8''a%22b%0D%0ASet-Cookie%3A%20x%2F%C3%A9.bin"
    )
    assert "Set-Cookie" not in answer.headers


def test_an_empty_file(api: Api, stored: Engine) -> None:
    artifact = keep(api, stored, b"")
    answer = api.http.get(artifact.url)
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")


def test_a_lost_file(api: Api, stored: Engine) -> None:
    artifact = keep(api, stored, b"lost")
    artifact.path.unlink()
    problem(api.http.get(artifact.url), 500, "artifact_damaged")


def test_a_small_damaged_file_is_an_error(api: Api, stored: Engine) -> None:
    artifact = keep(api, stored, b"small")
    artifact.path.write_bytes(b"smell")
    assert artifact.sha256 in problem(api.http.get(artifact.url), 500, "artifact_damaged")["detail"]


def test_a_large_damaged_file_never_arrives_complete(api: Api, stored: Engine) -> None:
    content = b"y" * (3 * CHUNK)
    artifact = keep(api, stored, content)
    artifact.path.write_bytes(content[:-1] + b"z")
    with pytest.raises(httpx.RemoteProtocolError):
        api.http.get(artifact.url)
    assert api.http.get("/healthz").status_code == 200
