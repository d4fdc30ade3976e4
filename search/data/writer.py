"""Writes images to a dataset directory, which `paretofit.search.data.store` reads. Torch-free.

The same images in the same order give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.data.splits import Rows
from paretofit.search.data.store import INDEX_COLUMNS, MANIFEST, SPLITS, VERSION, index_file, labels_file

Encoding = Literal["raw", "encoded"]
Pixels = NDArray[np.uint8]

ENCODED_SHARD_BYTES = 256 * 1024**2
LOSSLESS_SIDE = 64
"""An encoded image whose shorter side is at most this many pixels stays lossless (PNG), because JPEG's blocks would be
visible."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image ready to be appended, with its contribution to the dataset's statistics."""

    payload: bytes
    height: int
    width: int
    digest: bytes
    sums: NDArray[np.uint64]
    squares: NDArray[np.uint64]


def prepare(image_CHW: Pixels, encoding: Encoding) -> Prepared:  # noqa: N803 - shapes in names
    """Encode an image and compute its statistics: the expensive part, done in threads."""
    _, height, width = image_CHW.shape
    flat = np.ascontiguousarray(image_CHW).reshape(len(image_CHW), -1)
    sums, squares = _moments(flat)
    return Prepared(
        payload=flat.tobytes() if encoding == "raw" else _encode(image_CHW),
        height=height,
        width=width,
        digest=_digest(flat.tobytes(), _shape(height, width)),
        sums=sums,
        squares=squares,
    )


def _moments(flat: Pixels) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Exact sums of values and of squares over the last axis."""
    wide = flat.astype(np.uint32)
    return wide.sum(-1, dtype=np.uint64), np.square(wide, out=wide).sum(-1, dtype=np.uint64)


def _digest(content: bytes, shape: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16, key=shape).digest()


def _shape(height: int, width: int) -> bytes:
    return f"{height}x{width}".encode()


def _encode(image_CHW: Pixels) -> bytes:  # noqa: N803 - shapes in names
    channels, height, width = image_CHW.shape
    picture = Image.fromarray(image_CHW[0] if channels == 1 else np.ascontiguousarray(image_CHW.transpose(1, 2, 0)))
    buffer = BytesIO()
    if min(height, width) <= LOSSLESS_SIDE:
        picture.save(buffer, "PNG")
    else:
        picture.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


class _HashedFile:
    """A file that hashes its contents (SHA-256) while writing."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] = path.open("wb")

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)

    def close(self) -> dict[str, Any]:
        self._file.close()
        return {"size": self.size, "sha256": self._hash.hexdigest()}


@dataclass(slots=True)
class DatasetWriter:
    """Append every image once, in the order of `labels`, then call `finish`. A context manager: after an exception
    inside, the files are removed."""

    directory: Path
    channels: int
    encoding: Encoding = "raw"
    shard_bytes: int = ENCODED_SHARD_BYTES
    _files: dict[str, dict[str, Any]] = field(default_factory=dict)
    _shards: list[str] = field(default_factory=list)
    _shard: _HashedFile | None = None
    _index: list[NDArray[np.int64]] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)
    _sums: list[NDArray[np.uint64]] = field(default_factory=list)
    _squares: list[NDArray[np.uint64]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_shard()
        if kind is not None:
            for name in self._files:
                (self.directory / name).unlink()

    def append(self, image: Prepared) -> None:
        """Append one prepared image."""
        shard = self._open_shard()
        row = (len(self._shards) - 1, shard.size, len(image.payload), image.height, image.width)
        shard.write(image.payload)
        self._index.append(np.array([row], dtype=np.int64))
        self._digests.append(image.digest)
        self._sums.append(image.sums[None])
        self._squares.append(image.squares[None])

    def append_block(self, images_NCHW: Pixels) -> None:  # noqa: N803 - shapes in names
        """Append raw images of one size."""
        count, channels, height, width = images_NCHW.shape
        stride, shape = channels * height * width, _shape(height, width)
        shard = self._open_shard()
        index = np.empty((count, INDEX_COLUMNS), dtype=np.int64)
        index[:] = (len(self._shards) - 1, 0, stride, height, width)
        index[:, 1] = shard.size + stride * np.arange(count)
        self._index.append(index)
        for start in range(0, count, 4096):  # small enough to stay in the cache for all operations
            piece = np.ascontiguousarray(images_NCHW[start : start + 4096])
            content = piece.tobytes()
            shard.write(content)
            self._digests.extend(_digest(content[at : at + stride], shape) for at in range(0, len(content), stride))
            sums, squares = _moments(piece.reshape(len(piece), channels, -1))
            self._sums.append(sums)
            self._squares.append(squares)

    def _open_shard(self) -> _HashedFile:
        if self._shard is not None and (self.encoding == "raw" or self._shard.size < self.shard_bytes):
            return self._shard
        self._close_shard()
        self._shards.append(f"pixels-{len(self._shards):05}.bin")
        self._shard = _HashedFile(self.directory / self._shards[-1])
        return self._shard

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._files[self._shards[-1]] = self._shard.close()
            self._shard = None

    def finish(
        self,
        *,
        labels: Rows,
        splits: Mapping[str, Rows],
        classes: Sequence[str],
        image_size: tuple[int, int],
        report: Mapping[str, Any],
    ) -> tuple[DatasetProfile, dict[str, Any], list[str]]:
        """Write splits (rows of the appended images) and manifest; returns the profile, the full report and the file
        names."""
        self._close_shard()
        index = np.concatenate(self._index)
        for name in SPLITS:
            self._save(index_file(name), index[splits[name]])
            self._save(labels_file(name), labels[splits[name]])
        mean, std = self._statistics(index, splits["train"])
        contents = {
            "version": VERSION,
            "encoding": self.encoding,
            "channels": self.channels,
            "image_size": list(image_size),
            "classes": list(classes),
            "files": self._files,
        }
        profile = DatasetProfile(
            classes=tuple(classes),
            channels=self.channels,
            image_size=image_size,
            images={name: len(splits[name]) for name in SPLITS},
            mean=mean,
            std=std,
            fingerprint=hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest(),
        )
        full = {
            "images": sum(len(splits[name]) for name in SPLITS),
            "classes": list(classes),
            "class_counts": {
                name: dict(
                    zip(classes, np.bincount(labels[splits[name]], minlength=len(classes)).tolist(), strict=True)
                )
                for name in SPLITS
            },
            **report,
            "cross_split_duplicates": self._cross_split_duplicates(splits),
            "mean": list(mean),
            "std": list(std),
        }
        manifest = {
            "version": VERSION,
            "encoding": self.encoding,
            "shards": self._shards,
            "files": self._files,
            "profile": profile.model_dump(mode="json"),
            "report": full,
        }
        text = json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        (self.directory / MANIFEST).write_text(text, encoding="utf-8")
        return profile, full, [*self._files, MANIFEST]

    def _save(self, name: str, array: NDArray[Any]) -> None:
        buffer = BytesIO()
        np.save(buffer, array, allow_pickle=False)
        file = _HashedFile(self.directory / name)
        file.write(buffer.getvalue())
        self._files[name] = file.close()

    def _statistics(self, index: NDArray[np.int64], rows: Rows) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of all the rows' pixels, for values in [0, 1]."""
        pixels = int((index[rows, 3] * index[rows, 4]).sum())
        sums = np.concatenate(self._sums)[rows].sum(0).astype(np.float64)
        squares = np.concatenate(self._squares)[rows].sum(0).astype(np.float64)
        mean = sums / pixels
        # At least one gray level, because a constant channel would cause a division by zero.
        std = np.maximum(np.sqrt(np.maximum(squares / pixels - mean**2, 0)), 1)
        return tuple((mean / 255).tolist()), tuple((std / 255).tolist())

    def _cross_split_duplicates(self, splits: Mapping[str, Rows]) -> int:
        """Number of images whose pixels also occur in an earlier split, in the order train, selection, report."""
        seen: set[bytes] = set()
        duplicates = 0
        for name in SPLITS:
            digests = [self._digests[row] for row in splits[name]]
            duplicates += sum(digest in seen for digest in digests)
            seen.update(digests)
        return duplicates
