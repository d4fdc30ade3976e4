"""Malicious archives, each with the expected rejection code."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.search.data.archives import encoded, noise, pictures

LIMITS: Final = {
    "max_entries": 300,
    "max_decompressed_bytes": 8 * 1024**2,
    "ratio_floor_bytes": 1024**2,
    "max_file_bytes": 4 * 1024**2,
    "max_pixels": 4_000_000,
    "max_memory_bytes": 512 * 1024**2,
    "max_cpu_seconds": 20,
}
"""Small limits, so that archives that exceed them are created quickly."""

PICTURE: Final = encoded(noise(12, 16, 0))
GOOD: Final = pictures({"cat": 10, "dog": 10})
PAYLOAD: Final = b"#!/bin/sh\necho owned\n"
ZEROS: Final = bytes(12 * 1024**2)


@dataclass(frozen=True)
class Hostile:
    """`rejection` is the expected error code. None: the archive is accepted without its bad image `cat/bad.png`,
    which is listed; with `listed` empty the image is accepted and harmless after re-encoding."""

    content: bytes
    rejection: str | None
    listed: str = ""


Entry = tuple[str | zipfile.ZipInfo, bytes]


def _zip(*entries: Entry, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _named_zip(name: str) -> bytes:
    return _zip(("cat/0.png", PICTURE), (name, PICTURE))


def _special_zip(kind: int) -> bytes:
    info = zipfile.ZipInfo("cat/1.png")
    info.external_attr = (kind | 0o777) << 16
    return _zip((info, b"/etc/passwd"))


def _tar(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.TarFile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, content: bytes = PICTURE, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def _special_tar(kind: bytes, target: str = "/etc/passwd") -> bytes:
    return _tar(_member("cat/0.png"), _member("cat/1.png", b"", type=kind, linkname=target))


def _files(files: Mapping[str, bytes]) -> bytes:
    return _tar(*(_member(name, content) for name, content in files.items()))


def _patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def _encrypted() -> bytes:
    content = _zip(("cat/1.png", PICTURE))
    content = _patched(content, 6, b"\x01")
    return _patched(content, content.index(b"PK\x01\x02") + 8, b"\x01")


def _overlapping() -> bytes:
    content = _zip(("cat/1.png", PICTURE), ("cat/2.png", PICTURE))
    return _patched(content, content.rindex(b"PK\x01\x02") + 42, struct.pack("<I", 1))


def _one_kernel(count: int) -> bytes:
    """Many directory entries for the same compressed file, as in Fifield's bombs."""
    single = _zip(("cat/000.png", PICTURE))
    start, end = single.index(b"PK\x01\x02"), single.index(b"PK\x05\x06")
    entry = single[start:end]
    entries = b"".join(entry.replace(b"cat/000.png", b"cat/%03d.png" % number) for number in range(count))
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entries), start, 0)
    return single[:start] + entries + tail


def _lying_size() -> bytes:
    """The directory declares 10 bytes for 12 MiB of content."""
    content = _zip(("cat/1.png", ZEROS))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        content = _patched(content, content.index(signature) + at, struct.pack("<I", 10))
    return content


def _sparse() -> bytes:
    info = tarfile.TarInfo("cat/1.png")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def _damaged_header() -> bytes:
    content = bytearray(_files({f"cat/{number}.png": PICTURE for number in range(4)}))
    content[content.index(b"cat/2.png")] ^= 0xFF
    return bytes(content)


def _long_name(size: int) -> bytes:
    """A name of this many bytes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"n" * size + bytes(1024))


def _headers(*headers: tuple[bytes, bytes]) -> bytes:
    """A tar whose first member is preceded by extra headers, given as type and content."""
    archive = b""
    for kind, content in headers:
        info = tarfile.TarInfo("header")
        info.type, info.size = kind, len(content)
        archive += info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    return archive + _files({"cat/1.png": PICTURE})


def _endless() -> bytes:
    """Its last header declares that 2^80 bytes follow."""
    info = tarfile.TarInfo("cat/1.jpg.txt")
    info.size = 2**80
    return _files({"cat/0.png": PICTURE})[: 3 * tarfile.BLOCKSIZE] + info.tobuf(tarfile.GNU_FORMAT) + bytes(20_000)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *chunks: bytes, rows: bytes | None = None) -> bytes:
    """A gray PNG with zero pixels; `rows` overrides the number of rows."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = zlib.compress(bytes((width + 1) * height) if rows is None else rows, 9)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _with(image: bytes) -> bytes:
    return _files({**GOOD, "cat/bad.png": image})


def _jpeg(width: int, height: int) -> bytes:
    content = encoded(noise(16, 16, 3), "JPEG")
    at = content.index(b"\xff\xc0")
    return _patched(content, at + 5, struct.pack(">HH", height, width))


def _bombs() -> dict[str, Hostile]:
    zeros = _tar(_member("cat/1.png", ZEROS))
    compressions: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    cases = {f"bomb.tar.{kind}": Hostile(pack(zeros), "compression_ratio") for kind, pack in compressions.items()}
    large = {f"cat/{number}.png": noise(1024, 1024, number).tobytes() for number in range(3)}
    return cases | {
        "bomb.zip": Hostile(_zip(("cat/1.png", ZEROS)), "compression_ratio"),
        "bomb in what is ignored": Hostile(gzip.compress(_tar(_member("notes.txt", ZEROS))), "compression_ratio"),
        "bomb in two steps": Hostile(gzip.compress(gzip.compress(zeros)), "corrupt_archive"),
        "more bytes than allowed.zip": Hostile(_zip(*large.items(), method=zipfile.ZIP_STORED), "archive_too_large"),
        "more bytes than allowed.tar": Hostile(_files(large), "archive_too_large"),
        "more entries than allowed.zip": Hostile(
            _zip(*((f"cat/{number}.png", b"") for number in range(301))), "too_many_entries"
        ),
        "more entries than allowed.tar": Hostile(
            _files({f"cat/{number}.png": b"" for number in range(301)}), "too_many_entries"
        ),
        "more folders than allowed.tar": Hostile(
            _tar(*(_member(f"f{number}", b"", type=tarfile.DIRTYPE) for number in range(301))), "too_many_entries"
        ),
        "a name of 12 MiB": Hostile(_long_name(12 * 1024**2), "corrupt_archive"),
        "a size that lies": Hostile(_lying_size(), "corrupt_images"),
    }


def _images() -> dict[str, Hostile]:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    many = encoded(noise(16, 16, 5))
    return {
        "PNG of 60,000 x 60,000": Hostile(_with(_png(60_000, 60_000, rows=b"")), None, "exceed"),
        "PNG of 2^31 x 2^31": Hostile(_with(_png(2**31 - 1, 2**31 - 1, rows=b"")), None, "pixels"),
        "PNG of 3,000 x 3,000 zeros": Hostile(_with(_png(3000, 3000)), None, "exceed"),
        "PNG with a bomb as its text": Hostile(
            _with(_png(16, 16, _chunk(b"zTXt", b"k\0\0" + zlib.compress(ZEROS)))), None, "cannot"
        ),
        "PNG with a bomb as its profile": Hostile(
            _with(_png(16, 16, _chunk(b"iCCP", b"k\0\0" + zlib.compress(ZEROS)))), None, ""
        ),
        "PNG with more pixels than it says": Hostile(_with(_png(16, 16, rows=ZEROS)), None, ""),
        "PNG with fewer pixels than it says": Hostile(_with(_png(64, 64, rows=bytes(100))), None, "cannot be decoded"),
        "PNG that is cut off": Hostile(_with(many[: len(many) // 2]), None, "cannot be decoded"),
        "JPEG of 65,000 x 65,000": Hostile(_with(_jpeg(65_000, 65_000)), None, "exceed"),
        "GIF by another name": Hostile(_with(encoded(noise(16, 16, 1, 1), "GIF")), None, "not a PNG, JPEG or WebP"),
        "TIFF by another name": Hostile(_with(encoded(noise(16, 16, 1), "TIFF")), None, "not a PNG, JPEG or WebP"),
        "SVG by another name": Hostile(_with(svg), None, "not a PNG, JPEG or WebP"),
        "PostScript by another name": Hostile(
            _with(b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run"), None, "not a PNG, JPEG or WebP"
        ),
        "PNG that goes on as a script": Hostile(_with(many + PAYLOAD), None, ""),
        "PNG that goes on as a zip": Hostile(_with(many + _zip(("x.sh", PAYLOAD))), None, ""),
    }


def archives() -> dict[str, Hostile]:
    """All cases by name."""
    twice = _zip(("cat/e\u0301.png", PICTURE), ("cat/\u00e9.png", PICTURE))
    whole_zip, whole_tar = _zip(*GOOD.items()), _files(GOOD)
    nul = _named_zip("cat/evil_.png").replace(b"evil_", b"evil\0")
    directory = whole_zip.index(b"PK\x01\x02")
    sparse = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    cases = {
        "slip.zip": Hostile(_named_zip("../evil.png"), "unsafe_name"),
        "slip within.zip": Hostile(_named_zip("cat/../../evil.png"), "unsafe_name"),
        "slip by backslash.zip": Hostile(_named_zip("..\\..\\evil.png"), "unsafe_name"),
        "absolute.zip": Hostile(_named_zip("/tmp/evil.png"), "unsafe_name"),
        "drive.zip": Hostile(_named_zip("C:\\evil.png"), "unsafe_name"),
        "share.zip": Hostile(_named_zip("\\\\host\\share\\evil.png"), "unsafe_name"),
        "nul.zip": Hostile(nul, "unsafe_name"),
        "newline.zip": Hostile(_named_zip("cat/a\nb.png"), "unsafe_name"),
        "escape.zip": Hostile(_named_zip("cat/\x1b[2J.png"), "unsafe_name"),
        "long name.zip": Hostile(_named_zip("cat/" + "n" * 2000 + ".png"), "unsafe_name"),
        "slip.tar": Hostile(_files({"cat/0.png": PICTURE, "../evil.png": PICTURE}), "unsafe_name"),
        "slip within.tar": Hostile(_files({"cat/../../evil.png": PICTURE}), "unsafe_name"),
        "absolute.tar": Hostile(_files({"/tmp/evil.png": PICTURE}), "unsafe_name"),
        "link.zip": Hostile(_special_zip(stat.S_IFLNK), "special_entry"),
        "device.zip": Hostile(_special_zip(stat.S_IFCHR), "special_entry"),
        "fifo.zip": Hostile(_special_zip(stat.S_IFIFO), "special_entry"),
        "link.tar": Hostile(_special_tar(tarfile.SYMTYPE), "special_entry"),
        "link out.tar": Hostile(_special_tar(tarfile.SYMTYPE, "../../.."), "special_entry"),
        "hard link.tar": Hostile(_special_tar(tarfile.LNKTYPE), "special_entry"),
        "character device.tar": Hostile(_special_tar(tarfile.CHRTYPE), "special_entry"),
        "block device.tar": Hostile(_special_tar(tarfile.BLKTYPE), "special_entry"),
        "fifo.tar": Hostile(_special_tar(tarfile.FIFOTYPE), "special_entry"),
        "sparse.tar": Hostile(_sparse(), "special_entry"),
        "encrypted.zip": Hostile(_encrypted(), "encrypted_entry"),
        "lzma.zip": Hostile(_zip(("cat/1.png", PICTURE), method=zipfile.ZIP_LZMA), "compression_method"),
        "bzip2.zip": Hostile(_zip(("cat/1.png", PICTURE), method=zipfile.ZIP_BZIP2), "compression_method"),
        "twice.tar": Hostile(_tar(_member("cat/1.png"), _member("./cat//1.png")), "duplicate_entry"),
        "twice by another spelling.zip": Hostile(twice, "duplicate_entry"),
        "overlapping.zip": Hostile(_overlapping(), "overlapping_entries"),
        "one file, 200 names.zip": Hostile(_one_kernel(200), "overlapping_entries"),
        "nested zip.zip": Hostile(_zip(("cat/more.zip", whole_zip)), "nested_archive"),
        "nested zip by another name.tar": Hostile(_files({"cat/1.png": whole_zip}), "nested_archive"),
        "nested tar.zip": Hostile(_zip(("cat/1.png", whole_tar)), "nested_archive"),
        "nested gz.tar": Hostile(_files({"cat/1.png": gzip.compress(PICTURE)}), "nested_archive"),
        "nested 7z.tar": Hostile(_files({"cat/1.png": b"7z\xbc\xaf\x27\x1c" + bytes(300)}), "nested_archive"),
        "cut off.zip": Hostile(whole_zip[: len(whole_zip) // 2], "corrupt_archive"),
        "cut off.tar": Hostile(whole_tar[: len(whole_tar) // 2], "corrupt_archive"),
        "cut off.tar.gz": Hostile(gzip.compress(whole_tar)[:-2000], "corrupt_archive"),
        "damaged header.tar": Hostile(_damaged_header(), "corrupt_archive"),
        "name in no encoding.zip": Hostile(
            _named_zip("cat/\u00e9.png").replace(b"\xc3\xa9", b"\xff\xff"), "corrupt_archive"
        ),
        "newer than any.zip": Hostile(_patched(whole_zip, directory + 6, b"\xc8"), "corrupt_archive"),
        "file outside.zip": Hostile(_patched(whole_zip, len(whole_zip) - 6, b"\xff\xff\xff\x7f"), "corrupt_archive"),
        "file without a name.tar": Hostile(_files({".": PICTURE}), "unsafe_name"),
        "a thousand names for one file.tar": Hostile(
            _headers(*[(tarfile.GNUTYPE_LONGNAME, b"cat/1.png\0")] * 1000), "corrupt_archive"
        ),
        "attributes of digits.tar": Hostile(_headers((tarfile.XHDTYPE, b"1" * 500_000)), "corrupt_archive"),
        "sparse without a map.tar": Hostile(_headers((tarfile.XHDTYPE, sparse)), "corrupt_archive"),
        "a size without end.tar": Hostile(_endless(), "corrupt_archive"),
        "PNG.zip": Hostile(PICTURE, "corrupt_archive"),
        "7z.zip": Hostile(b"7z\xbc\xaf\x27\x1c" + bytes(500), "corrupt_archive"),
        "rar.zip": Hostile(b"Rar!\x1a\x07\x01\x00" + bytes(500), "corrupt_archive"),
        "program.tar": Hostile(b"\x7fELF" + bytes(2000), "corrupt_archive"),
        "nothing.zip": Hostile(b"", "empty_archive"),
        "no file.zip": Hostile(_zip(), "no_images"),
        "picture and zip": Hostile(PICTURE + whole_zip, "polyglot"),
        "tar and zip": Hostile(whole_tar + whole_zip, "polyglot"),
        "PDF and zip": Hostile(b"%PDF-1.7\n" + bytes(600) + whole_zip, "polyglot"),
    }
    return cases | _bombs() | _images()
