"""Files by the SHA-256 of their content, on local disk (`file:///path`) or S3 (`s3://bucket/prefix`).

On disk a file is published by: temporary file -> SHA-256 -> fsync -> rename -> fsync of its directory. A visible name
therefore always has its whole content. Every complete read is verified against the name.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

CHUNK = 1024**2
_DIGEST_LENGTH = 64
_PUBLISHED = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})")


class BlobMissingError(LookupError):
    """No blob has this digest."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"blob {sha256} does not exist: restore it from a backup, or run its trial again")
        self.sha256 = sha256


class BlobUnavailableError(OSError):
    """The store is unavailable or refuses the request: worth a retry."""


class BlobCorruptError(RuntimeError):
    """The content stored under a digest does not match it."""

    def __init__(self, sha256: str, actual: str) -> None:
        super().__init__(f"blob {sha256} is damaged: its content hashes to {actual}; restore it or run its trial again")
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored file: its SHA-256 (hex) and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredBlob(Blob):
    """A blob in the store; `put_at` is when its content was last written."""

    put_at: datetime


class BlobStore(ABC):
    """Content-addressed files. Safe to use from several threads and processes at once."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @abstractmethod
    def put(self, path: Path) -> Blob:
        """Store a copy of the file at `path`; replaces a damaged blob of the same content. Raises OSError."""

    def find(self, sha256: str) -> StoredBlob:
        """The metadata of a blob. Raises BlobMissingError, BlobUnavailableError."""
        with _missing(sha256):
            found = obstore.head(self._objects, _name(sha256))
        return StoredBlob(sha256, int(found["size"]), found["last_modified"])

    def size(self, sha256: str) -> int:
        """Bytes of a blob. Raises BlobMissingError."""
        return self.find(sha256).size

    def list(self) -> Iterator[StoredBlob]:
        """Every blob, in no particular order; may miss concurrent changes. Raises BlobUnavailableError."""
        with _translating_errors():
            for page in obstore.list(self._objects):
                for found in page:
                    if (name := _PUBLISHED.fullmatch(found["path"])) is not None:
                        yield StoredBlob(name[2], int(found["size"]), found["last_modified"])

    def discard_partial(self, before: datetime) -> int:
        """Delete the partial files of interrupted writes that have not changed since `before`; returns their number.

        Buckets have no partial files: their lifecycle rules abort incomplete uploads.
        """
        del before
        return 0

    def stream(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes [start, end) of a blob, in order, in chunks of about 1 MiB; `end` None is the end of the blob.

        A stream of the whole blob is verified: the last chunk is held back until the digest is checked, so a damaged
        blob never arrives complete. A part cannot be verified. Raises BlobMissingError,
        BlobCorruptError, and ValueError for a range outside the blob.
        """
        size = self.size(sha256)
        end = size if end is None else end
        if not 0 <= start <= end <= size:
            raise ValueError(
                f"bytes {start}-{end} are not within the {size} bytes of blob {sha256}: request a range inside it"
            )
        if (start, end) == (0, size):
            yield from _verified(self._read(sha256, 0, size), sha256)
        else:
            yield from self._read(sha256, start, end)

    def fetch(self, sha256: str, destination: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write a blob to `destination` atomically. `check` is called periodically and may raise.

        Raises BlobMissingError, BlobCorruptError, OSError.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(destination, destination.parent) as file:
            for chunk in self.stream(sha256):
                check()
                file.write(chunk)

    def delete(self, sha256: str) -> None:
        """Delete a blob, if it exists. Raises BlobUnavailableError."""
        with suppress(BlobMissingError), _missing(sha256):
            obstore.delete(self._objects, _name(sha256))

    def _read(self, sha256: str, start: int, end: int) -> Iterator[bytes]:
        if start == end:
            return
        with _missing(sha256):
            result = obstore.get(self._objects, _name(sha256), options={"range": (start, end)})
            for chunk in result.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)


class LocalBlobStore(BlobStore):
    """Blobs under a directory, two levels deep: `ab/ab12...`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        super().__init__(LocalStore(root))

    def put(self, path: Path) -> Blob:
        digest, size = hashlib.sha256(), 0
        partial = self._incoming / uuid.uuid4().hex
        try:
            with path.open("rb") as source, partial.open("xb") as file:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                _sync(file)
            blob = Blob(digest.hexdigest(), size)
            target = self._root / _name(blob.sha256)
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                _sync_directory(self._root)
            partial.rename(target)
            _sync_directory(target.parent)
        finally:
            partial.unlink(missing_ok=True)
        return blob

    def discard_partial(self, before: datetime) -> int:
        discarded = 0
        for partial in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(partial.stat().st_mtime, UTC) < before:
                    partial.unlink()
                    discarded += 1
        return discarded


class S3BlobStore(BlobStore):
    """Blobs in a bucket, under a prefix. Credentials come from the environment, as for any AWS client."""

    def put(self, path: Path) -> Blob:
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        blob = Blob(digest.hexdigest(), size)
        with _translating_errors():
            obstore.put(self._objects, _name(blob.sha256), path)
        return blob


def open_store(url: str) -> BlobStore:
    """The store at `file:///path` (made if missing) or `s3://bucket/prefix`. Raises ValueError for other URLs."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return LocalBlobStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3BlobStore(S3Store.from_url(url))
    raise ValueError(f"invalid blob store URL {url!r}: use file:///path or s3://bucket/prefix")


def _name(sha256: str) -> str:
    if len(sha256) != _DIGEST_LENGTH or set(sha256) - set("0123456789abcdef"):
        raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hex")
    return f"{sha256[:2]}/{sha256}"


@contextmanager
def _missing(sha256: str) -> Iterator[None]:
    try:
        with _translating_errors():
            yield
    except FileNotFoundError as error:
        raise BlobMissingError(sha256) from error


@contextmanager
def _translating_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except BaseError as error:
        raise BlobUnavailableError(f"the blob store is unavailable: {error}") from error


def _verified(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    digest, held = hashlib.sha256(), b""
    for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != sha256:
        raise BlobCorruptError(sha256, digest.hexdigest())
    if held:
        yield held


@contextmanager
def _replacing(destination: Path, directory: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `destination` if the block ends without an exception."""
    partial = directory / f".{destination.name}.{uuid.uuid4().hex}"
    try:
        with partial.open("xb") as file:
            yield file
            _sync(file)
        partial.replace(destination)
        _sync_directory(directory)
    finally:
        partial.unlink(missing_ok=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
