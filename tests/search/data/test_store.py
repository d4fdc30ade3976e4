from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretofit.search.data.store import MANIFEST, Dataset, DatasetError
from paretofit.search.data.writer import DatasetWriter, Encoding, prepare
from tests.search.data.archives import noise

SPLITS = {"train": np.array([0, 2, 3, 5]), "selection": np.array([4]), "report": np.array([1, 6])}


def write(
    out: Path, sizes: list[tuple[int, int]], *, channels: int = 3, encoding: Encoding = "raw", **options: Any
) -> list[np.ndarray[Any, Any]]:
    """Write seven images and return them."""
    images = [
        noise(*size, seed, channels).reshape(*size, channels).transpose(2, 0, 1) for seed, size in enumerate(sizes)
    ]
    out.mkdir()
    with DatasetWriter(out, channels, encoding, **options) as writer:
        for image in images:
            writer.append(prepare(image, encoding))
        writer.finish(
            labels=np.arange(7) % 2, splits=SPLITS, classes=("even", "odd"), image_size=(8, 8), report={"note": "made"}
        )
    return images


UNIFORM = [(9, 10)] * 7
RAGGED = [(9, 10), (8, 20), (11, 8), (9, 9), (30, 8), (8, 8), (12, 9)]


@pytest.mark.parametrize("sizes", [UNIFORM, RAGGED, [*UNIFORM[:4], (3, 7), (9, 10), (9, 10)]])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"encoding": "encoded"}, {"encoding": "encoded", "shard_bytes": 300}])
def test_images_round_trip(
    tmp_path: Path, sizes: list[tuple[int, int]], channels: int, options: dict[str, Any]
) -> None:
    images = write(tmp_path / "d", sizes, channels=channels, **options)
    dataset = Dataset.open(tmp_path / "d")
    for name, rows in SPLITS.items():
        split = dataset.split(name)
        assert len(split) == len(rows)
        assert split.labels.tolist() == [row % 2 for row in rows]
        for position, row in enumerate(rows):
            assert (split.image(position) == images[row]).all()
        order = np.arange(len(rows))[::-1]
        with ThreadPoolExecutor(2) as pool:
            for flat, offsets in (split.gather(order), split.gather(order, pool.map)):
                for position, offset in zip(order, offsets, strict=True):
                    image = images[rows[position]]
                    assert (flat[offset : offset + image.size] == image.reshape(-1)).all()
        assert split.decoded_bytes == sum(images[row].size for row in rows)


def test_uniform_size_is_detected(tmp_path: Path) -> None:
    write(tmp_path / "a", UNIFORM)
    write(tmp_path / "b", RAGGED)
    assert Dataset.open(tmp_path / "a").split("train").uniform_size == (9, 10)
    assert Dataset.open(tmp_path / "b").split("train").uniform_size is None


def test_empty_batch_is_gathered(tmp_path: Path) -> None:
    write(tmp_path / "d", RAGGED)
    flat, offsets = Dataset.open(tmp_path / "d").split("train").gather(np.array([], dtype=np.int64))
    assert len(flat) == len(offsets) == 0


def test_fingerprint_depends_only_on_contents(tmp_path: Path) -> None:
    write(tmp_path / "a", RAGGED)
    write(tmp_path / "b", RAGGED)
    write(tmp_path / "c", list(reversed(RAGGED)))
    first, second, third = (Dataset.open(tmp_path / name).profile.fingerprint for name in "abc")
    assert first == second != third
    assert len(first) == 64


def test_directory_of_hard_links_is_readable(tmp_path: Path) -> None:
    images = write(tmp_path / "a", UNIFORM)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").iterdir():
        os.link(path, tmp_path / "b" / path.name)
    dataset = Dataset.open(tmp_path / "b")
    assert (dataset.split("train").image(0) == images[0]).all()
    assert dataset.report["note"] == "made"


def _shorten(directory: Path) -> None:
    path = directory / "pixels-00000.bin"
    path.write_bytes(path.read_bytes()[:-1])


def _remove(directory: Path) -> None:
    (directory / "report.labels.npy").unlink()


def _remove_manifest(directory: Path) -> None:
    (directory / MANIFEST).unlink()


def _truncate_manifest(directory: Path) -> None:
    path = directory / MANIFEST
    path.write_bytes(path.read_bytes()[:100])


def _newer_version(directory: Path) -> None:
    path = directory / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))


def _remove_profile(directory: Path) -> None:
    path = directory / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "profile": {}}))


def _index_beyond_the_pixels(directory: Path) -> None:
    path = directory / "train.index.npy"
    index = np.load(path)
    index[0, 1] = 10**9
    np.save(path, index)


def _label_beyond_the_classes(directory: Path) -> None:
    path = directory / "train.labels.npy"
    np.save(path, np.load(path) + 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_shorten, "has 1889 bytes instead of 1890"),
        (_remove, "report.labels.npy is missing"),
        (_remove_manifest, "not a dataset directory"),
        (_truncate_manifest, "damaged"),
        (_newer_version, "version 99"),
        (_remove_profile, "damaged"),
        (_index_beyond_the_pixels, "out of range of the pixels"),
        (_label_beyond_the_classes, "or the classes"),
    ],
)
def test_damaged_datasets_are_reported(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "d", UNIFORM)
    damage(tmp_path / "d")
    with pytest.raises(DatasetError, match=message):
        Dataset.open(tmp_path / "d")


def test_files_are_removed_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with DatasetWriter(tmp_path, 3) as writer:
            writer.append(prepare(noise(8, 8, 0).transpose(2, 0, 1), "raw"))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_constant_pixels_have_a_nonzero_std(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, 1) as writer:
        writer.append_block(np.full((7, 1, 8, 8), 51, dtype=np.uint8))
        profile, _, _ = writer.finish(
            labels=np.arange(7) % 2, splits=SPLITS, classes=("a", "b"), image_size=(8, 8), report={}
        )
    assert profile.mean == pytest.approx((0.2,))
    assert profile.std == pytest.approx((1 / 255,))
