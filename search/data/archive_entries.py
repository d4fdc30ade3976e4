"""Iterates over the files of an untrusted zip or tar. Torch-free.

Entries that no dataset needs (links, devices, absolute names, `..`, encrypted or overlapping entries) reject the whole
archive, as does decompressing to more than the limits allow.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Protocol, Self

from paretofit.search.data.limits import IngestLimits
from paretofit.search.data.rejection import reject

CHUNK = 1024 * 1024
HEAD = 262  # up to tar's magic number

_MAX_NAME = 1024
_MAX_TAR_HEADER = 16 * 1024  # for names and attributes stored in separate headers
_TAR_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_ZIP_END = 22  # bytes of a zip's end record
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: the parts of its path, its position in the archive, and a function that opens it."""

    path: tuple[str, ...]
    position: int
    open: Callable[[], Readable]


class _Budget:
    """Counts decompressed bytes while they are read."""

    def __init__(self, limits: IngestLimits, compressed: int) -> None:
        self._spent = 0
        self._total = limits.max_decompressed_bytes
        self._by_ratio = max(limits.ratio_floor_bytes, int(compressed * limits.max_ratio))
        self._ratio = limits.max_ratio

    def spend(self, count: int) -> None:
        self._spent += count
        if self._spent > self._total:
            raise reject("archive_too_large", f"the archive decompresses to more than {self._total:,} bytes: send less")
        if self._spent > self._by_ratio:
            raise reject(
                "compression_ratio",
                f"the archive decompresses to more than {self._ratio:g} times its size: send images that are "
                "not padded",
            )


class _Counted(io.BufferedIOBase):
    """A decompressed stream limited by the budget. Closing it closes the stream."""

    def __init__(self, stream: Readable, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        content = self._stream.read(-1 if size is None else size)
        self._budget.spend(len(content))
        return content

    def close(self) -> None:
        self._stream.close()
        super().close()


def entries(file: IO[bytes], limits: IngestLimits) -> Iterator[Entry]:
    """Every file in the archive's order; read each before requesting the next. Raises RejectedError, and the exceptions
    of tarfile and zipfile for a damaged archive."""
    budget = _Budget(limits, file.seek(0, io.SEEK_END))
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise reject("empty_archive", "the archive is empty (0 bytes): send a zip or tar of class/name.png")
    if not head.startswith(b"PK") and _ends_as_zip(file):
        raise reject(
            "polyglot",
            "the file is a zip archive at its end and another format at its beginning: send only one of them",
        )
    found = _zip_entries(file, budget) if head.startswith(b"PK") else _tar_entries(file, head, budget)
    for count, entry in enumerate(found, start=1):
        if count > limits.max_entries:
            raise reject(
                "too_many_entries", f"the archive has more than {limits.max_entries:,} files and folders: send fewer"
            )
        if entry is not None:
            if not entry.path:
                raise reject("unsafe_name", "a file has no name: give it one")
            yield entry


def _zip_entries(file: IO[bytes], budget: _Budget) -> Iterator[Entry | None]:
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda info: info.header_offset)
        # Before any is opened: some versions of zipfile report such an archive as damaged.
        for info, following in pairwise(entries):
            if following.header_offset < info.header_offset + 30 + len(info.orig_filename) + info.compress_size:
                over = printable(_safe_path(following.orig_filename))
                raise reject("overlapping_entries", f"{over} overlaps another file: create the archive again")
        for info in entries:
            path = _safe_path(info.orig_filename)
            if not 0 <= info.header_offset < size:
                raise zipfile.BadZipFile(f"{printable(path)} lies outside the archive")
            if info.flag_bits & 0x1:
                raise reject(
                    "encrypted_entry", f"{printable(path)} is encrypted: create the archive without a password"
                )
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise reject("special_entry", f"{printable(path)} is a link or a device: replace it by the file itself")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise reject("compression_method", f"{printable(path)} is neither stored nor deflated: use plain zip")
            if info.is_dir():
                yield None
                continue

            def opened(info: zipfile.ZipInfo = info) -> _Counted:
                return _Counted(archive.open(info), budget)

            yield Entry(path, info.header_offset, opened)


def _ends_as_zip(file: IO[bytes]) -> bool:
    """Whether the file ends with a zip's end record and its comment."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - _ZIP_END - 0xFFFF, 0))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    record = tail[at : at + _ZIP_END]
    return at >= 0 and len(record) == _ZIP_END and len(tail) == at + _ZIP_END + int.from_bytes(record[-2:], "little")


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile treats a damaged header as the archive's end; this class raises an error. Long headers are rejected,
    because older versions of tarfile parse them in quadratic time."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"a header is damaged or missing: {error}") from error
        if info.size < 0 or (info.type in _TAR_HEADERS and info.size > _MAX_TAR_HEADER):
            raise tarfile.ReadError(f"a header declares {info.size} bytes of content")
        return info


class _TarStream(tarfile.TarFile):
    tarinfo = _StrictTarInfo
    members: list[tarfile.TarInfo]


def _tar_entries(file: IO[bytes], head: bytes, budget: _Budget) -> Iterator[Entry | None]:
    stream = _Counted(_decompressed(file, head), budget)
    with _TarStream.open(fileobj=stream, mode="r|", encoding="utf-8") as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # tarfile would keep every one in memory
            path = _safe_path(info.name)
            if info.isdir():
                yield None
                continue
            if not info.isreg() or info.issparse():
                raise reject(
                    "special_entry", f"{printable(path)} is a link, a device or sparse: replace it by the file itself"
                )

            def opened(info: tarfile.TarInfo = info) -> Readable:
                member = archive.extractfile(info)
                if member is None:
                    raise tarfile.ReadError(f"{info.name} has no contents")
                return member

            yield Entry(path, file.tell(), opened)
            _skip(archive)
    while stream.read(CHUNK):  # up to the checksum at the end
        pass


def _skip(archive: _TarStream) -> None:
    """Advance to the next header. After the end tarfile would read block by block as far as the last header
    declares."""
    stream = archive.fileobj
    assert stream is not None
    while (left := archive.offset - stream.tell()) > 0:
        if not stream.read(min(left, CHUNK)):
            raise tarfile.ReadError("unexpected end of data")


def _decompressed(file: IO[bytes], head: bytes) -> Readable:
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(file)
    if head.startswith(b"BZh"):
        return bz2.open(file)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(file)
    return file


def _safe_path(name: str) -> tuple[str, ...]:
    """The parts of a relative path. Raises RejectedError for an unsafe name."""
    shown = printable((name,))
    if len(name) > _MAX_NAME:
        raise reject("unsafe_name", f"{shown} is longer than {_MAX_NAME} characters: shorten it")
    if _CONTROL.search(name):
        raise reject("unsafe_name", f"{shown} contains a control character: rename it")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise reject("unsafe_name", f"{shown} is not UTF-8: rename it") from error
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    if parts[0] == "" or _DRIVE.match(parts[0]):
        raise reject("unsafe_name", f"{shown} is absolute: use names relative to the archive")
    if ".." in parts:
        raise reject("unsafe_name", f"{shown} leads outside the archive: use names without ..")
    return tuple(part for part in parts if part not in ("", "."))


def printable(path: tuple[str, ...]) -> str:
    """Shortened and printable, for messages."""
    return ascii("/".join(path)[:200])
