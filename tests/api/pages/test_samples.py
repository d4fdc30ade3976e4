"""Sample images, which are read without numpy from datasets that `paretofit.search.data.writer` has written."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretofit.api.pages import samples
from paretofit.api.problems import NotFoundError
from paretofit.db.blobs import BlobStore, LocalBlobStore
from paretofit.search.data.store import Dataset
from paretofit.search.data.writer import DatasetWriter, Encoding, prepare

CLASSES = ("even", "odd")
IMAGES = 40


@pytest.fixture(params=[(1, "raw"), (3, "raw"), (3, "encoded")], ids=lambda each: f"{each[0]}-{each[1]}")
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Dataset, BlobStore, dict[str, Any]]:
    channels, encoding = request.param
    return written_dataset(tmp_path, channels, encoding)


def written_dataset(path: Path, channels: int, encoding: Encoding) -> tuple[Dataset, BlobStore, dict[str, Any]]:
    directory = path / "dataset"
    directory.mkdir()
    noise = np.random.default_rng(0)
    labels = np.arange(IMAGES) % 2
    with DatasetWriter(directory, channels=channels, encoding=encoding) as writer:
        for _ in range(IMAGES):
            writer.append(prepare(noise.integers(0, 256, (channels, 10, 12), dtype=np.uint8), encoding))
        rows = np.arange(IMAGES)
        writer.finish(
            labels=labels,
            splits={"train": rows[:30], "selection": rows[30:35], "report": rows[35:]},
            classes=CLASSES,
            image_size=(10, 12),
            report={"corrupt": [], "corrupt_images": 0, "ignored": [], "ignored_files": 0, "sizes": {}},
        )
    store = LocalBlobStore(path / "blobs")
    manifest = {}
    for file in directory.iterdir():
        blob = store.put(file)
        manifest[file.name] = {"sha256": blob.sha256, "size": blob.size}
    return Dataset.open(directory), store, manifest


def test_samples_are_the_training_images(written: tuple[Dataset, BlobStore, dict[str, Any]]) -> None:
    dataset, store, manifest = written
    train = dataset.split("train")
    drawn = samples.draw(store, manifest)
    assert len(drawn) == 24
    for sample in drawn:
        assert sample.label == CLASSES[train.labels[sample.row]]
        content, media_type = samples.picture(store, manifest, sample.row)
        with Image.open(BytesIO(content)) as picture:
            assert media_type == f"image/{(picture.format or '').lower()}"
            pixels = np.asarray(picture)
        expected = train.image(sample.row)
        assert np.array_equal(pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1), expected.squeeze())


def test_rows_out_of_range_are_rejected(written: tuple[Dataset, BlobStore, dict[str, Any]]) -> None:
    _, store, manifest = written
    for row in (-1, 30):
        with pytest.raises(NotFoundError, match="the dataset has 30"):
            samples.picture(store, manifest, row)
    assert samples.draw(store, {}) == []
