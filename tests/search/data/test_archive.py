from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paretofit.search.data.archive import Extracted, extract
from paretofit.search.data.ingest import silent
from paretofit.search.data.limits import IngestLimits
from paretofit.search.data.rejection import RejectedError
from tests.search.data.archives import compress, encoded, noise, tarred, zipped

PICTURE = encoded(noise(12, 16, 0))
FILES = {"cat/1.png": PICTURE, "dog/2.JPG": b"whatever", "README.txt": b"hello", "cat/.DS_Store": b"x" * 300}
LIMITS = IngestLimits()


def read(archive: Path, limits: IngestLimits = LIMITS) -> tuple[Extracted, bytes]:
    spool = archive.with_name("spool")
    return extract(archive, spool, limits, silent), spool.read_bytes()


def rejection_code(archive: Path, limits: IngestLimits = LIMITS) -> str:
    """The code of the only reason; nothing but the spool may have been written."""
    before = set(archive.parent.rglob("*")) | {archive.with_name("spool")}
    with pytest.raises(RejectedError) as refused:
        read(archive, limits)
    assert set(archive.parent.rglob("*")) <= before
    (reason,) = refused.value.reasons
    assert reason.detail
    return reason.code


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_all_formats_give_equal_contents(tmp_path: Path, kind: str) -> None:
    # The format is detected from the content, not from the file name.
    path = tmp_path / "upload"
    archive = zipped(path, FILES) if kind == "zip" else tarred(path, FILES, kind.partition(".")[2])
    contents, spool = read(archive)
    assert {image.name: spool[image.offset : image.offset + image.size] for image in contents.images} == {
        "cat/1.png": PICTURE,
        "dog/2.JPG": b"whatever",
    }
    assert sorted(contents.ignored) == ["README.txt", "cat/.DS_Store"]
    assert contents.corrupt == []


def test_macos_metadata_files_are_ignored(tmp_path: Path) -> None:
    contents, _ = read(zipped(tmp_path / "a.zip", {**FILES, "__MACOSX/cat/._1.png": b"x", "cat/._1.png": b"y"}))
    assert {image.name for image in contents.images} == {"cat/1.png", "dog/2.JPG"}


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../cat/1.png", "unsafe_name"),
        ("cat/../../1.png", "unsafe_name"),
        ("/etc/cat/1.png", "unsafe_name"),
        ("C:\\cat\\1.png", "unsafe_name"),
        ("..\\cat\\1.png", "unsafe_name"),
        ("cat/new\nline.png", "unsafe_name"),
        ("cat/" + "n" * 1100 + ".png", "unsafe_name"),
    ],
)
def test_path_traversal_names_are_rejected(
    tmp_path: Path, pack: Callable[[Path, dict[str, bytes]], Path], name: str, code: str
) -> None:
    assert rejection_code(pack(tmp_path / "a", {"cat/0.png": PICTURE, name: PICTURE})) == code


def test_nul_in_a_name_is_rejected(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"cat/1.png": PICTURE, "cat/evil_.png": PICTURE})
    archive.write_bytes(archive.read_bytes().replace(b"evil_", b"evil\0"))
    assert rejection_code(archive) == "unsafe_name"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_tar_links_and_devices_are_rejected(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with tarfile.TarFile.open(path, "w") as archive:
        info = tarfile.TarInfo("cat/1.png")
        info.type = kind
        info.linkname = "/etc/passwd"
        archive.addfile(info)
    assert rejection_code(path) == "special_entry"


def test_sparse_tar_members_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("cat/1.png")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"  # A declared size of 8 GiB without a single byte in the archive.
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(1024))
    assert rejection_code(path) == "special_entry"


def test_zip_links_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("cat/1.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert rejection_code(path) == "special_entry"


def test_encrypted_zip_is_rejected(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"cat/1.png": PICTURE})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    assert rejection_code(archive) == "encrypted_entry"


def test_unsupported_zip_compression_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/1.png", PICTURE)
    assert rejection_code(path) == "compression_method"


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["cat/more.zip", "cat/1.png", "cat/inner"])
@pytest.mark.parametrize("inner", ["zip", "tar", "gz", "bz2", "xz"])
def test_nested_archives_are_detected_by_content(
    tmp_path: Path, pack: Callable[[Path, dict[str, bytes]], Path], name: str, inner: str
) -> None:
    if inner in ("zip", "tar"):
        content = (zipped if inner == "zip" else tarred)(tmp_path / "inner", FILES).read_bytes()
    else:
        content = compress(b"text", inner)
    assert rejection_code(pack(tmp_path / "a", {"cat/0.png": PICTURE, name: content})) == "nested_archive"


def test_duplicate_names_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.TarFile.open(path, "w") as archive:
        for name in ("cat/1.png", "./cat//1.png"):
            info = tarfile.TarInfo(name)
            info.size = len(PICTURE)
            archive.addfile(info, io.BytesIO(PICTURE))
    assert rejection_code(path) == "duplicate_entry"


def test_overlapping_zip_entries_are_rejected(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"cat/1.png": PICTURE, "cat/2.png": PICTURE})
    content = bytearray(archive.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 1)
    archive.write_bytes(content)
    assert rejection_code(archive) == "overlapping_entries"


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_decompression_bombs_are_rejected(tmp_path: Path, kind: str) -> None:
    files = {"cat/1.png": bytes(8 * 1024**2)}
    archive = zipped(tmp_path / "a", files) if kind == "zip" else tarred(tmp_path / "a", files, kind)
    by_ratio = IngestLimits(ratio_floor_bytes=1024**2)
    assert rejection_code(archive, by_ratio) == "compression_ratio"
    assert (tmp_path / "spool").stat().st_size < 3 * 1024**2
    by_size = IngestLimits(max_decompressed_bytes=2 * 1024**2)
    assert rejection_code(archive, by_size) == "archive_too_large"


def test_bomb_in_an_ignored_file_is_rejected(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a", {"notes.txt": bytes(8 * 1024**2)}, "gz")
    assert rejection_code(archive, IngestLimits(ratio_floor_bytes=1024**2)) == "compression_ratio"


def test_too_many_entries_are_rejected(tmp_path: Path) -> None:
    files = {f"cat/{number}.png": b"" for number in range(11)}
    for pack in (zipped, tarred):
        assert rejection_code(pack(tmp_path / "a", files), IngestLimits(max_entries=10)) == "too_many_entries"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_oversized_file_is_skipped(tmp_path: Path, pack: Callable[[Path, dict[str, bytes]], Path]) -> None:
    archive = pack(tmp_path / "a", {"cat/1.png": PICTURE, "cat/2.png": noise(60, 60, 1).tobytes(), "dog/3.png": b"z"})
    contents, spool = read(archive, IngestLimits(max_file_bytes=1000))
    assert [name for name, _ in contents.corrupt] == ["cat/2.png"]
    assert [spool[image.offset : image.offset + image.size] for image in contents.images] == [PICTURE, b"z"]


def test_damaged_zip_member_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("cat/1.png", b"one one"), ("cat/2.png", b"two two")):
            archive.writestr(name, content)
    path.write_bytes(path.read_bytes().replace(b"one one", b"one 0ne"))
    contents, spool = read(path)
    assert [name for name, _ in contents.corrupt] == ["cat/1.png"]
    assert [image.name for image in contents.images] == ["cat/2.png"]
    assert spool == b"two two"


@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_truncated_archive_is_rejected(tmp_path: Path, kind: str) -> None:
    files = {f"cat/{number}.png": noise(20, 20, number).tobytes() for number in range(20)}
    archive = zipped(tmp_path / "a", files) if kind == "zip" else tarred(tmp_path / "a", files, kind)
    content = archive.read_bytes()
    for kept in (len(content) // 2, len(content) * 3 // 4, len(content) // 3 // 512 * 512):
        archive.write_bytes(content[:kept])
        assert rejection_code(archive) == "corrupt_archive"


def test_damaged_header_is_not_treated_as_end_of_archive(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar", {f"cat/{number}.png": PICTURE for number in range(4)})
    content = bytearray(archive.read_bytes())
    content[content.index(b"cat/2.png")] ^= 0xFF
    archive.write_bytes(content)
    assert rejection_code(archive) == "corrupt_archive"


def test_wrong_final_checksum_is_rejected(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a", FILES, "gz")
    content = bytearray(archive.read_bytes())
    content[-6] ^= 0xFF
    archive.write_bytes(content)
    assert rejection_code(archive) == "corrupt_archive"


@pytest.mark.parametrize("content", [b"hello", b"\1" * 2000, PICTURE, b"PK\x03\x04nothing"])
def test_non_archives_are_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert rejection_code(path) == "corrupt_archive"


def test_empty_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    assert rejection_code(path) == "empty_archive"
