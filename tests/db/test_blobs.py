"""Files by their digest: published as a whole, checked when read."""

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
def either(request: pytest.FixtureRequest, store: BlobStore) -> BlobStore:
    """A store on disk, or a bucket in memory."""
    return store if request.param == "disk" else S3BlobStore(MemoryStore())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def files(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


def test_stored_content_is_read_back(either: BlobStore, file: Path, tmp_path: Path) -> None:
    assert either.put(file) == Blob(DIGEST, len(CONTENT))
    file.unlink()
    assert either.size(DIGEST) == len(CONTENT)
    either.fetch(DIGEST, tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == CONTENT
    assert files(tmp_path / "deep") == ["copy"]


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 0), (0, 1), (5, 9), (CHUNK - 1, CHUNK + 1), (7, None), (len(CONTENT), None)]
)
def test_any_range_is_streamed(either: BlobStore, file: Path, start: int, end: int | None) -> None:
    either.put(file)
    assert b"".join(either.stream(DIGEST, start, end)) == CONTENT[start:end]


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (4, 3), (0, len(CONTENT) + 1)])
def test_a_range_outside_is_refused(either: BlobStore, file: Path, start: int, end: int) -> None:
    either.put(file)
    with pytest.raises(ValueError, match="are not within"):
        list(either.stream(DIGEST, start, end))


def test_empty_file_is_stored(either: BlobStore, file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"")
    blob = either.put(file)
    assert blob == Blob(hashlib.sha256(b"").hexdigest(), 0)
    either.fetch(blob.sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_concurrent_puts_of_the_same_content_store_one_blob(
    store: BlobStore, file: Path, root: Path, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(16) as pool:
        blobs = set(pool.map(store.put, [file] * 32))
    assert blobs == {Blob(DIGEST, len(CONTENT))}
    assert files(root) == [DIGEST]
    store.fetch(DIGEST, tmp_path / "copy")


def test_a_file_that_cannot_be_read_leaves_nothing(store: BlobStore, root: Path, tmp_path: Path) -> None:
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


def test_fetch_is_atomic(either: BlobStore, file: Path, tmp_path: Path) -> None:
    either.put(file)
    destination = tmp_path / "copy"
    destination.write_text("old")
    either.fetch(DIGEST, destination)
    assert destination.read_bytes() == CONTENT
    with pytest.raises(BlobMissingError):
        either.fetch("0" * 64, destination)
    assert destination.read_bytes() == CONTENT


def test_delete_is_idempotent(either: BlobStore, file: Path) -> None:
    either.put(file)
    either.delete(DIGEST)
    either.delete(DIGEST)
    with pytest.raises(BlobMissingError):
        either.size(DIGEST)
    with pytest.raises(BlobMissingError):
        list(either.stream(DIGEST))


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 63, "A" * 64, ""])
def test_only_digests_are_names(either: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        either.size(name)


@pytest.mark.parametrize("url", ["/var/blobs", "gs://bucket", "file://host/path", "s3://", ""])
def test_an_unknown_kind_of_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        open_store(url)


def test_a_bucket_is_a_store() -> None:
    assert isinstance(open_store("s3://bucket/prefix"), S3BlobStore)
