"""Reads an untrusted zip or tar and appends its image files to one spool file. Torch-free.

Nothing is extracted under a name from the archive; names only determine classes. Entries that no dataset needs (links,
devices, absolute names, `..`, encrypted or nested archives, duplicate names) reject the whole archive.
"""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from paretofit.search.data.archive_entries import CHUNK, HEAD, Entry, Readable, entries, printable
from paretofit.search.data.limits import IngestLimits
from paretofit.search.data.rejection import reject

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

# Exceptions that tarfile and zipfile raise for maliciously damaged archives.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    ValueError,
)
_ARCHIVES = re.compile(
    rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|BZh[1-9](1AY&SY|\x17rE8P\x90)|\xfd7zXZ\x00|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07"
    rb"|\x28\xb5\x2f\xfd|(?s:.{257})ustar"
)


class Progress(Protocol):
    """Called with a stage, its completed amount and its total."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Member:
    """An image file: its path in the archive and the position of its bytes in the spool."""

    path: tuple[str, ...]
    offset: int
    size: int

    @property
    def name(self) -> str:
        return "/".join(self.path)


@dataclass(slots=True)
class Extracted:
    """`corrupt` lists unreadable files with the reason; `ignored` lists files without an image suffix."""

    images: list[Member] = field(default_factory=list)
    corrupt: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


class _UnreadableError(Exception):
    """One file of the archive cannot be read."""


def extract(archive: Path, spool: Path, limits: IngestLimits, progress: Progress) -> Extracted:
    """Read the archive once, in order. Raises RejectedError."""
    size = archive.stat().st_size
    found = Extracted()
    seen: set[tuple[str, ...]] = set()
    progress("extract", 0, size)
    try:
        with archive.open("rb") as file, spool.open("wb") as out:
            for entry in entries(file, limits):
                if entry.path in seen:
                    raise reject("duplicate_entry", f"{printable(entry.path)} occurs twice: keep one")
                seen.add(entry.path)
                _take(entry, out, limits, found)
                progress("extract", min(entry.position, size - 1), size)
    except _BROKEN as error:
        raise reject(
            "corrupt_archive", f"the archive cannot be read to its end ({error}): create it again and send it"
        ) from error
    except MemoryError as error:
        raise reject(
            "archive_memory",
            "reading the archive's headers takes more memory than allowed: create the archive again as plain zip",
        ) from error
    except OSError as error:
        if error.errno is not None:  # a machine error, not caused by the archive
            raise
        raise reject(
            "corrupt_archive", f"the archive cannot be read to its end ({error}): create it again and send it"
        ) from error
    progress("extract", size, size)
    return found


def _take(entry: Entry, out: IO[bytes], limits: IngestLimits, found: Extracted) -> None:
    name = "/".join(entry.path)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in entry.path)
    is_image = not hidden and entry.path[-1].lower().endswith(IMAGE_SUFFIXES)
    offset = out.tell()
    try:
        with closing(entry.open()) as stream:
            head = _read(stream, HEAD)
            if _ARCHIVES.match(head):
                raise reject("nested_archive", f"{printable(entry.path)} is itself an archive: unpack it first")
            if not is_image:
                found.ignored.append(name)
                return
            size = 0
            chunk = head
            while chunk:
                size += len(chunk)
                if size > limits.max_file_bytes:
                    raise _UnreadableError(f"has more than {limits.max_file_bytes:,} bytes")
                out.write(chunk)
                chunk = _read(stream, CHUNK)
    except _UnreadableError as error:
        out.seek(offset)
        out.truncate()
        found.corrupt.append((name, str(error)))
        return
    found.images.append(Member(entry.path, offset, size))


def _read(stream: Readable, size: int) -> bytes:
    try:
        return stream.read(size)
    except (zipfile.BadZipFile, zlib.error) as error:  # in a zip the next file is independent
        raise _UnreadableError(f"is damaged in the archive: {error}") from error
