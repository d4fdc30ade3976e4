"""A dataset on disk, read by memory mapping. Torch-free.

A dataset directory holds `dataset.json` (version, profile, report, files with sizes and SHA-256), the images in shards
`pixels-NNNNN.bin` that all splits share, and per split `<split>.index.npy`, int64 [images, 5]: shard, offset, bytes,
height, width, and `<split>.labels.npy`, int64 [images]. `raw` pixels are uint8, channels x height x width (one shard);
`encoded` ones are PNG or JPEG files one after another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from paretofit.search.contracts.dataset import DatasetProfile

VERSION = 1
MANIFEST = "dataset.json"
SPLITS = ("train", "selection", "report")
INDEX_COLUMNS = 5

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]


class Mapper(Protocol):
    """The built-in `map`, or an executor's."""

    def __call__(self, function: Callable[[int], Pixels], rows: Iterable[int], /) -> Iterable[Pixels]: ...


class DatasetError(ValueError):
    """The directory is not a dataset, or differs from what was written."""


def index_file(split: str) -> str:
    return f"{split}.index.npy"


def labels_file(split: str) -> str:
    return f"{split}.labels.npy"


class Split:
    """The images of one split by row. `labels`, `heights` and `widths` are int64 [images]."""

    def __init__(
        self, name: str, channels: int, encoding: str, shards: tuple[Pixels, ...], index: Integers, labels: Integers
    ) -> None:
        self.name = name
        self.channels = channels
        self.encoding = encoding
        self.labels = labels
        self._shards = shards
        self._shard, self._offset, self._bytes, self.heights, self.widths = np.ascontiguousarray(index.T)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def uniform_size(self) -> tuple[int, int] | None:
        """Height and width if all images have the same size, else None."""
        if len(self) and (self.heights == self.heights[0]).all() and (self.widths == self.widths[0]).all():
            return int(self.heights[0]), int(self.widths[0])
        return None

    @cached_property
    def decoded_bytes(self) -> int:
        """Size of all images of the split as uint8, in bytes."""
        return int((self.heights * self.widths).sum()) * self.channels

    def image(self, row: int) -> Pixels:
        """One image, uint8 [channels, height, width]; for a raw dataset a read-only view."""
        start = self._offset[row]
        content: Pixels = self._shards[self._shard[row]][start : start + self._bytes[row]]
        shape = (self.channels, int(self.heights[row]), int(self.widths[row]))
        if self.encoding == "raw":
            return content.reshape(shape)
        with Image.open(BytesIO(content.tobytes()), formats=("PNG", "JPEG")) as picture:
            pixels = np.asarray(picture)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def gather(self, rows: Integers, mapper: Mapper = map) -> tuple[Pixels, Integers]:
        """Images one after another as uint8 [bytes], a copy, and their offsets, int64 [rows]. `mapper` decodes encoded
        images; an executor's `map` does so in parallel."""
        sizes = self.heights[rows] * self.widths[rows] * self.channels
        offsets = np.cumsum(sizes) - sizes
        if self._grid is not None:
            return self._grid[self._offset[rows] // self._grid.shape[1]].reshape(-1), offsets
        if len(rows) == 0:
            return np.empty(0, dtype=np.uint8), offsets
        return np.concatenate([image.reshape(-1) for image in mapper(self.image, rows.tolist())]), offsets

    @cached_property
    def _grid(self) -> Pixels | None:
        """Raw images of one size as an array [images of the shard, bytes], so that a batch is one fancy index."""
        if self.encoding != "raw" or self.uniform_size is None:
            return None
        stride = int(self._bytes[0])
        if (self._offset % stride).any():
            return None
        shard = self._shards[0]
        return shard[: len(shard) // stride * stride].reshape(-1, stride)


class Dataset:
    """A dataset directory. Create instances with `Dataset.open`."""

    def __init__(
        self, directory: Path, profile: DatasetProfile, report: dict[str, Any], splits: dict[str, Split]
    ) -> None:
        self.directory = directory
        self.profile = profile
        self.report = report
        self._splits = splits

    def split(self, name: str) -> Split:
        """`train`, `selection` or `report`. Raises KeyError for another name."""
        return self._splits[name]

    @classmethod
    def open(cls, directory: Path) -> Dataset:
        """Check the sizes of the files and map them. Raises DatasetError."""
        manifest = _read_manifest(directory)
        try:
            encoding, shard_names, files = manifest["encoding"], manifest["shards"], manifest["files"]
            profile = DatasetProfile.model_validate(manifest["profile"])
            report: dict[str, Any] = manifest["report"]
        except (KeyError, ValidationError) as error:
            raise DatasetError(f"{directory / MANIFEST} is damaged ({error}): create the dataset again") from error
        for name, file in files.items():
            path = directory / name
            if not path.is_file():
                raise DatasetError(f"{path} is missing: copy it again, or create the dataset again")
            if path.stat().st_size != file["size"]:
                raise DatasetError(
                    f"{path} has {path.stat().st_size} bytes instead of {file['size']}: copy it again, or create "
                    "the dataset again"
                )
        shards = tuple(np.memmap(directory / name, dtype=np.uint8, mode="r") for name in shard_names)
        splits = {name: _open_split(directory, name, profile, encoding, shards) for name in SPLITS}
        return cls(directory, profile, report, splits)


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{directory} is not a dataset directory: it has no {MANIFEST}; create one with `python -m "
            "paretofit.search.data.ingest --request REQUEST --out DIR`"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is damaged ({error}): create the dataset again") from error
    if manifest.get("version") != VERSION:
        raise DatasetError(
            f"{path} has version {manifest.get('version')!r}, but this Paretofit reads {VERSION}: create the "
            "dataset again"
        )
    return manifest


def _open_split(
    directory: Path, name: str, profile: DatasetProfile, encoding: str, shards: tuple[Pixels, ...]
) -> Split:
    index: Integers = np.load(directory / index_file(name), allow_pickle=False)
    labels: Integers = np.load(directory / labels_file(name), allow_pickle=False)
    if index.shape != (profile.images[name], INDEX_COLUMNS) or labels.shape != (profile.images[name],):
        raise DatasetError(f"{directory}: the files of {name} do not match {MANIFEST}: create the dataset again")
    if len(index):
        shard, offset, size, height, width = index.T
        sizes = np.array([len(pixels) for pixels in shards], dtype=np.int64)
        whole = (
            (index >= 0).all()
            and (shard < len(shards)).all()
            and (offset + size <= sizes[np.minimum(shard, len(shards) - 1)]).all()
            and (encoding != "raw" or (size == height * width * profile.channels).all())
            and 0 <= labels.min() <= labels.max() < len(profile.classes)
        )
        if not whole:
            raise DatasetError(
                f"{directory / index_file(name)} is out of range of the pixels or the classes: create the dataset again"
            )
    return Split(name, profile.channels, encoding, shards, index, labels)
