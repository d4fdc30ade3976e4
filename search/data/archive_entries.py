"""The files of a stranger's zip or tar, one after another. Torch-free.

Whatever no dataset needs (links, devices, absolute names, `..`, encrypted or overlapping entries) rejects the archive
as a whole, and so does decompressing to more than the limits allow.
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
HEAD = 262  # as far as tar's magic number

_MAX_NAME = 1024
_MAX_TAR_HEADER = 16 * 1024  # of names and attributes that have a header of their own
_TAR_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_ZIP_END = 22  # bytes of a zip's last record
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: the parts of its path, how far into the archive it lies, and what opens it."""

    path: tuple[str, ...]
    position: int
    open: Callable[[], Readable]


class _Budget:
    """Counts decompressed bytes as they come."""

    def __init__(self, limits: IngestLimits, compressed: int) -> None:
        self._spent = 0
        self._total = limits.max_decompressed_bytes
        self._by_ratio = max(limits.ratio_floor_bytes, int(compressed * limits.max_ratio))
        self._ratio = limits.max_ratio

    def spend(self, count: int) -> None:
        self._spent += count
        if self._spent > self._total:
            raise reject("archive_too_large", f"more than {self._total:,} bytes once decompressed: send less")
        if self._spent > self._by_ratio:
            raise reject(
                "compression_ratio", f"decompresses to more than {self._ratio:g} times its size, as no images do"
            )


class _Counted(io.BufferedIOBase):
    """A decompressed stream that keeps to the budget. Closing it closes the stream."""

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
    """Every file, in the archive's order; each is read before the next is asked for. Raises RejectedError, and what
    tarfile and zipfile raise for a damaged archive."""
    budget = _Budget(limits, file.seek(0, io.SEEK_END))
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise reject("empty_archive", "has no bytes: send a zip or tar of class/name.png")
    if not head.startswith(b"PK") and _ends_as_zip(file):
        raise reject("polyglot", "is a zip archive at its end and something else at its beginning: send one of them")
    found = _zip_entries(file, budget) if head.startswith(b"PK") else _tar_entries(file, head, budget)
    for count, entry in enumerate(found, start=1):
        if count > limits.max_entries:
            raise reject("too_many_entries", f"has more than {limits.max_entries:,} files and folders: send fewer")
        if entry is not None:
            if not entry.path:
                raise reject("unsafe_name", "a file has no name: give it one")
            yield entry


def _zip_entries(file: IO[bytes], budget: _Budget) -> Iterator[Entry | None]:
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda info: info.header_offset)
        # Before any is opened: some versions of zipfile call such an archive damaged.
        for info, following in pairwise(entries):
            if following.header_offset < info.header_offset + 30 + len(info.orig_filename) + info.compress_size:
                over = printable(_safe_path(following.orig_filename))
                raise reject("overlapping_entries", f"{over} lies over another file: make the archive again")
        for info in entries:
            path = _safe_path(info.orig_filename)
            if not 0 <= info.header_offset < size:
                raise zipfile.BadZipFile(f"{printable(path)} lies outside of it")
            if info.flag_bits & 0x1:
                raise reject("encrypted_entry", f"{printable(path)} is encrypted: make the archive without a password")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise reject("special_entry", f"{printable(path)} is a link or a device: put the file itself there")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise reject("compression_method", f"{printable(path)} is neither stored nor deflated: use plain zip")
            if info.is_dir():
                yield None
                continue

            def opened(info: zipfile.ZipInfo = info) -> _Counted:
                return _Counted(archive.open(info), budget)

            yield Entry(path, info.header_offset, opened)


def _ends_as_zip(file: IO[bytes]) -> bool:
    """Whether a zip's last record, with a comment that fills what is left, is where it would be looked for."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - _ZIP_END - 0xFFFF, 0))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    record = tail[at : at + _ZIP_END]
    return at >= 0 and len(record) == _ZIP_END and len(tail) == at + _ZIP_END + int.from_bytes(record[-2:], "little")


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header for the archive's end; here only the end is one. Long headers are refused: older
    versions of tarfile look through one in time that grows with the square of its size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"a header is damaged or missing: {error}") from error
        if info.size < 0 or (info.type in _TAR_HEADERS and info.size > _MAX_TAR_HEADER):
            raise tarfile.ReadError(f"a header says that {info.size} bytes follow it")
        return info


class _TarStream(tarfile.TarFile):
    tarinfo = _StrictTarInfo
    members: list[tarfile.TarInfo]


def _tar_entries(file: IO[bytes], head: bytes, budget: _Budget) -> Iterator[Entry | None]:
    stream = _Counted(_decompressed(file, head), budget)
    with _TarStream.open(fileobj=stream, mode="r|", encoding="utf-8") as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # tarfile would remember every one
            path = _safe_path(info.name)
            if info.isdir():
                yield None
                continue
            if not info.isreg() or info.issparse():
                raise reject(
                    "special_entry", f"{printable(path)} is a link, a device or sparse: put the file itself there"
                )

            def opened(info: tarfile.TarInfo = info) -> Readable:
                member = archive.extractfile(info)
                if member is None:
                    raise tarfile.ReadError(f"{info.name} has no contents")
                return member

            yield Entry(path, file.tell(), opened)
            _skip(archive)
    while stream.read(CHUNK):  # to the checksum at the end
        pass


def _skip(archive: _TarStream) -> None:
    """Go to the next header. tarfile would look for it as far behind the end as the last one says, block by block."""
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
    """The parts of a relative path. Raises RejectedError for a name that no honest archive has."""
    shown = printable((name,))
    if len(name) > _MAX_NAME:
        raise reject("unsafe_name", f"{shown} is longer than {_MAX_NAME} characters: shorten it")
    if _CONTROL.search(name):
        raise reject("unsafe_name", f"{shown} has a control character: rename it")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise reject("unsafe_name", f"{shown} is no UTF-8: rename it") from error
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    if parts[0] == "" or _DRIVE.match(parts[0]):
        raise reject("unsafe_name", f"{shown} is absolute: use names relative to the archive")
    if ".." in parts:
        raise reject("unsafe_name", f"{shown} leads out of the archive: use names without ..")
    return tuple(part for part in parts if part not in ("", "."))


def printable(path: tuple[str, ...]) -> str:
    """For a message: short and printable."""
    return ascii("/".join(path)[:200])
