"""Sample images of a dataset, read from its files (`paretofit.search.data.store`) in small ranges, without numpy."""

from __future__ import annotations

import ast
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from paretofit.api.problems import NotFoundError
from paretofit.db.blobs import BlobStore

_SHOWN: Final = 24
_DESCRIPTION: Final = "dataset.json"
_SPLIT: Final = "train"
_HEAD: Final = 256
_INTEGER: Final = 8
_COLUMNS: Final = 5
Files = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image by its row in the training split."""

    row: int
    label: str


@dataclass(frozen=True, slots=True)
class _Array:
    """The offset of the int64 data in a .npy file, and its number of rows."""

    sha256: str
    start: int
    rows: int


def draw(store: BlobStore, files: Files) -> list[Sample]:
    """Rows spread over the training split; empty for a dataset without images."""
    if _DESCRIPTION not in files:
        return []
    described = _description(store, files)
    labels = _array(store, files, f"{_SPLIT}.labels.npy")
    count = min(_SHOWN, labels.rows)
    # Not at multiples of the number of classes: many sources are sorted by class, or cycle through the classes.
    rows = sorted({(2 * place + 1) * labels.rows // (2 * count) for place in range(count)})
    classes = described["profile"]["classes"]
    return [Sample(row, classes[_numbers(store, labels, row, 1)[0]]) for row in rows]


def picture(store: BlobStore, files: Files, row: int) -> tuple[bytes, str]:
    """An image of the training split and its media type. Raises NotFoundError."""
    described = _description(store, files)
    index = _array(store, files, f"{_SPLIT}.index.npy")
    if not 0 <= row < index.rows:
        raise NotFoundError(f"no training image {row}: the dataset has {index.rows}")
    shard, offset, size, height, width = _numbers(store, index, row * _COLUMNS, _COLUMNS)
    content = _read(store, files[described["shards"][shard]]["sha256"], offset, offset + size)
    if described["encoding"] == "raw":
        return _png(content, described["profile"]["channels"], height, width), "image/png"
    return content, "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"


def _description(store: BlobStore, files: Files) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(store.stream(files[_DESCRIPTION]["sha256"])))
    return found


def _array(store: BlobStore, files: Files, name: str) -> _Array:
    """Parse the header of a .npy file (NEP 1, version 1.0)."""
    file = files[name]
    head = _read(store, file["sha256"], 0, min(_HEAD, file["size"]))
    (length,) = struct.unpack("<H", head[8:10])
    described = ast.literal_eval(head[10 : 10 + length].decode())
    if described["descr"] != "<i8" or described["fortran_order"]:
        raise NotFoundError(f"{name} has an unsupported format: create the dataset again")
    return _Array(file["sha256"], 10 + length, described["shape"][0])


def _numbers(store: BlobStore, array: _Array, first: int, count: int) -> tuple[int, ...]:
    start = array.start + first * _INTEGER
    return struct.unpack(f"<{count}q", _read(store, array.sha256, start, start + count * _INTEGER))


def _read(store: BlobStore, sha256: str, start: int, end: int) -> bytes:
    return b"".join(store.stream(sha256, start, end))


def _png(pixels: bytes, channels: int, height: int, width: int) -> bytes:
    """A PNG of pixels channels x height x width, one channel or three."""
    size = height * width
    interleaved = bytearray(pixels)
    if channels > 1:
        for channel in range(channels):
            interleaved[channel::channels] = pixels[channel * size : (channel + 1) * size]
    stride = width * channels
    lines = b"".join(b"\0" + interleaved[line * stride : (line + 1) * stride] for line in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
