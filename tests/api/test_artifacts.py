"""Artifacts over HTTP: metadata, full and partial downloads, damaged files."""

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
class StoredArtifact:
    """An artifact and its file in the blob store."""

    id: str
    sha256: str
    path: Path

    @property
    def url(self) -> str:
        return f"/v1/artifacts/{self.id}/content"


def store_artifact(api: Api, engine: Engine, content: bytes, name: str = "w0.5 r24.safetensors") -> StoredArtifact:
    """An artifact with this content."""
    search_id = rows.search(engine, rows.ready_dataset(engine))
    source = api.home / "source"
    source.write_bytes(content)
    blob = open_store((api.home / "blobs").as_uri()).put(source)
    trial_id = rows.trial(engine, search_id)
    artifact_id = rows.artifact(engine, search_id, trial_id, name=name, sha256=blob.sha256, size=blob.size)
    return StoredArtifact(artifact_id, blob.sha256, api.home / "blobs" / blob.sha256[:2] / blob.sha256)


@pytest.fixture(scope="module")
def artifact(api: Api, stored: Engine) -> StoredArtifact:
    return store_artifact(api, stored, CONTENT)


def test_artifact_has_digest_and_size(http: httpx.Client, artifact: StoredArtifact) -> None:
    document = http.get(f"/v1/artifacts/{artifact.id}").json()
    assert (document["sha256"], document["size"]) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_download_has_the_full_content_and_headers(http: httpx.Client, artifact: StoredArtifact) -> None:
    response = http.get(artifact.url)
    assert (response.status_code, response.content) == (200, CONTENT)
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["ETag"] == f'"{artifact.sha256}"'
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert 'filename="w0.5 r24.safetensors"' in response.headers["Content-Disposition"]
    head = http.head(artifact.url)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type", "Content-Disposition"):
        assert head.headers[name] == response.headers[name]


@pytest.mark.parametrize(
    ("range_header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=1279990-", 1_279_990, 1_280_000),
        ("bytes=-10", 1_279_990, 1_280_000),
        ("bytes=1000-99999999", 1000, 1_280_000),
    ],
)
def test_range_is_served(http: httpx.Client, artifact: StoredArtifact, range_header: str, start: int, end: int) -> None:
    for condition in ({}, {"If-Range": f'"{artifact.sha256}"'}):
        response = http.get(artifact.url, headers={"Range": range_header, **condition})
        assert (response.status_code, response.content) == (206, CONTENT[start:end])
        assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
        assert response.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize(
    "range_header", ["bytes=9-5", "bytes=-", "bytes=a-b", "items=0-5", "bytes=0-1,5-9", "bytes=-99999999"]
)
def test_unsupported_ranges_get_the_full_content(
    http: httpx.Client, artifact: StoredArtifact, range_header: str
) -> None:
    response = http.get(artifact.url, headers={"Range": range_header})
    assert (response.status_code, response.content) == (200, CONTENT)


def test_outdated_if_range_gets_the_full_content(http: httpx.Client, artifact: StoredArtifact) -> None:
    response = http.get(artifact.url, headers={"Range": "bytes=0-4", "If-Range": '"other"'})
    assert (response.status_code, len(response.content)) == (200, len(CONTENT))


@pytest.mark.parametrize("range_header", ["bytes=1280000-", "bytes=9999999-99999999", "bytes=-0"])
def test_range_outside_the_file_is_rejected(http: httpx.Client, artifact: StoredArtifact, range_header: str) -> None:
    response = http.get(artifact.url, headers={"Range": range_header})
    problem(response, 416, "range_not_satisfiable")
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("etags", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_matching_etag_gets_not_modified(http: httpx.Client, artifact: StoredArtifact, etags: str) -> None:
    response = http.get(artifact.url, headers={"If-None-Match": etags.format(artifact.sha256)})
    assert (response.status_code, response.content) == (304, b"")


def test_file_name_is_escaped_in_the_header(api: Api, stored: Engine) -> None:
    artifact = store_artifact(api, stored, b"x", name='a"b\r\nSet-Cookie: x/é.bin')
    response = api.http.get(artifact.url)
    assert response.headers["Content-Disposition"] == (
        "attachment; filename=\"a_b__Set-Cookie_ x__.bin\"; filename*=UTF-8''a%22b%0D%0ASet-Cookie%3A%20x%2F%C3%A9.bin"
    )
    assert "Set-Cookie" not in response.headers


def test_empty_file_is_downloaded(api: Api, stored: Engine) -> None:
    artifact = store_artifact(api, stored, b"")
    response = api.http.get(artifact.url)
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (200, b"", "0")


def test_missing_file_is_an_error(api: Api, stored: Engine) -> None:
    artifact = store_artifact(api, stored, b"lost")
    artifact.path.unlink()
    problem(api.http.get(artifact.url), 500, "artifact_damaged")


def test_small_damaged_file_is_an_error(api: Api, stored: Engine) -> None:
    artifact = store_artifact(api, stored, b"small")
    artifact.path.write_bytes(b"smell")
    assert artifact.sha256 in problem(api.http.get(artifact.url), 500, "artifact_damaged")["detail"]


def test_large_damaged_file_is_never_sent_completely(api: Api, stored: Engine) -> None:
    content = b"y" * (3 * CHUNK)
    artifact = store_artifact(api, stored, content)
    artifact.path.write_bytes(content[:-1] + b"z")
    with pytest.raises(httpx.RemoteProtocolError):
        api.http.get(artifact.url)
    assert api.http.get("/healthz").status_code == 200
