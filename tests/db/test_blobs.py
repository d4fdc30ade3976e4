"""Blobs are named by their digest, published atomically and verified when they are read."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from paretofit.db.blobs import CHUNK, Blob, BlobCorruptError, BlobMissingError, BlobStore, S3BlobStore, open_store

CONTENT = bytes(range(256)) * (CHUNK // 128) + b"the end"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a store"


@pytest.fixture
def store(root: Path) -> BlobStore:
    return open_store(root.as_uri())


@pytest.fixture(params=["disk", "bucket"])
def any_store(request: pytest.FixtureRequest, store: BlobStore) -> BlobStore:
    """A store on disk, or a bucket in memory."""
    return store if request.param == "disk" else S3BlobStore(MemoryStore())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def files(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


def test_stored_content_is_read_back(any_store: BlobStore, file: Path, tmp_path: Path) -> None:
    assert any_store.put(file) == Blob(DIGEST, len(CONTENT))
    file.unlink()
    assert any_store.size(DIGEST) == len(CONTENT)
    any_store.fetch(DIGEST, tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == CONTENT
    assert files(tmp_path / "deep") == ["copy"]


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 0), (0, 1), (5, 9), (CHUNK - 1, CHUNK + 1), (7, None), (len(CONTENT), None)]
)
def test_any_range_is_streamed(any_store: BlobStore, file: Path, start: int, end: int | None) -> None:
    any_store.put(file)
    assert b"".join(any_store.stream(DIGEST, start, end)) == CONTENT[start:end]


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (4, 3), (0, len(CONTENT) + 1)])
def test_range_outside_the_file_is_rejected(any_store: BlobStore, file: Path, start: int, end: int) -> None:
    any_store.put(file)
    with pytest.raises(ValueError, match="are not within"):
        list(any_store.stream(DIGEST, start, end))


def test_empty_file_is_stored(any_store: BlobStore, file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"")
    blob = any_store.put(file)
    assert blob == Blob(hashlib.sha256(b"").hexdigest(), 0)
    any_store.fetch(blob.sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_concurrent_puts_of_the_same_content_store_one_blob(
    store: BlobStore, file: Path, root: Path, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(16) as pool:
        blobs = set(pool.map(store.put, [file] * 32))
    assert blobs == {Blob(DIGEST, len(CONTENT))}
    assert files(root) == [DIGEST]
    store.fetch(DIGEST, tmp_path / "copy")


def test_unreadable_file_leaves_no_partial_blob(store: BlobStore, root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        store.put(tmp_path)
    assert files(root) == []


@pytest.mark.parametrize("damage", [b"x" + CONTENT[1:], CONTENT[:-1], b""], ids=["changed", "cut", "empty"])
def test_damage_is_detected_on_read_and_repaired_by_put(
    store: BlobStore, file: Path, root: Path, tmp_path: Path, damage: bytes
) -> None:
    store.put(file)
    (root / DIGEST[:2] / DIGEST).write_bytes(damage)
    with pytest.raises(BlobCorruptError, match=DIGEST):
        store.fetch(DIGEST, tmp_path / "out" / "copy")
    assert files(tmp_path / "out") == []
    received = bytearray()
    with pytest.raises(BlobCorruptError):
        received.extend(byte for chunk in store.stream(DIGEST) for byte in chunk)
    assert len(received) < len(CONTENT)
    store.put(file)
    store.fetch(DIGEST, tmp_path / "out" / "copy")


def test_fetch_is_atomic(any_store: BlobStore, file: Path, tmp_path: Path) -> None:
    any_store.put(file)
    destination = tmp_path / "copy"
    destination.write_text("old")
    any_store.fetch(DIGEST, destination)
    assert destination.read_bytes() == CONTENT
    with pytest.raises(BlobMissingError):
        any_store.fetch("0" * 64, destination)
    assert destination.read_bytes() == CONTENT


def test_delete_is_idempotent(any_store: BlobStore, file: Path) -> None:
    any_store.put(file)
    any_store.delete(DIGEST)
    any_store.delete(DIGEST)
    with pytest.raises(BlobMissingError):
        any_store.size(DIGEST)
    with pytest.raises(BlobMissingError):
        list(any_store.stream(DIGEST))


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 63, "A" * 64, ""])
def test_names_must_be_digests(any_store: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        any_store.size(name)


@pytest.mark.parametrize("url", ["/var/blobs", "gs://bucket", "file://host/path", "s3://", ""])
def test_unknown_store_url_is_rejected(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        open_store(url)


def test_s3_url_opens_a_bucket_store() -> None:
    assert isinstance(open_store("s3://bucket/prefix"), S3BlobStore)
