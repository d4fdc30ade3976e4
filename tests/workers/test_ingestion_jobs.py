"""Datasets through the light queue."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paretofit.db import datasets, uploads
from paretofit.db.blobs import open_store
from paretofit.db.engine import transaction
from paretofit.db.jobs import DATASETS
from paretofit.db.tables import DatasetRow
from paretofit.search.data.store import Dataset
from paretofit.workers import staging
from paretofit.workers.helper_process import HelperCrashedError, own_file
from tests.db import rows
from tests.workers.fleet import Fleet


def archive(path: Path, *, classes: int = 2, images: int = 12, prefix: str = "class") -> Path:
    """A zip archive of 16 x 16 gray images, `class/name.png`."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        for kind in range(classes):
            for number in range(images):
                content = BytesIO()
                Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(content, "png")
                file.writestr(f"{prefix}{kind}/{number}.png", content.getvalue())
    return path


def upload(fleet: Fleet, path: Path) -> str:
    """Complete an upload like the API."""
    blob = open_store((fleet.home / "blobs").as_uri()).put(path)
    with transaction(fleet.engine) as session:
        row = datasets.insert(session, "default", name="uploaded", source={"kind": "upload"}, options={})
        assert uploads.start(session, DATASETS, "default", row.id)
        assert uploads.finish(session, DATASETS, "default", row.id, sha256=blob.sha256, size=blob.size)
    return row.id


def wait_for_validation(fleet: Fleet, dataset_id: str) -> DatasetRow:
    def ended_row() -> DatasetRow | None:
        dataset_row = rows.dataset(fleet.engine, dataset_id)
        return dataset_row if dataset_row.state in {"ready", "rejected"} else None

    return fleet.wait(ended_row, "end of the validation")


def test_helper_cannot_reference_files_outside_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "own").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").mkdir()
    assert own_file(folder, "own") == folder / "own"
    for name in ("../secret", str(tmp_path / "secret"), "link", "inner", "..", "", "inner/../own"):
        with pytest.raises(HelperCrashedError, match="not a file in its folder"):
            own_file(folder, name)


def test_uploaded_archive_becomes_a_dataset(shared_fleet: Fleet, tmp_path: Path) -> None:
    row = wait_for_validation(shared_fleet, upload(shared_fleet, archive(tmp_path / "images.zip")))
    assert (row.state, row.error) == ("ready", None)
    assert row.profile is not None
    assert row.manifest is not None
    assert row.profile["classes"] == ["class0", "class1"]
    assert sum(row.profile["images"].values()) == 24
    blobs = open_store((shared_fleet.home / "blobs").as_uri())
    folder = staging.dataset(blobs, tmp_path / "cache", row.id, row.manifest, partial=tmp_path / "partial")
    assert Dataset.open(folder).profile.model_dump(mode="json") == row.profile
    assert list((shared_fleet.home / "scratch").iterdir()) == []


def test_dataset_may_have_many_classes_with_long_names(shared_fleet: Fleet, tmp_path: Path) -> None:
    row = wait_for_validation(
        shared_fleet, upload(shared_fleet, archive(tmp_path / "a.zip", classes=300, images=3, prefix="c" * 900))
    )
    assert (row.state, row.error) == ("ready", None)
    assert row.profile is not None
    assert len(row.profile["classes"]) == 300


def test_invalid_archive_is_rejected_with_reasons(shared_fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(b"this is not an archive")
    row = wait_for_validation(shared_fleet, upload(shared_fleet, path))
    assert row.state == "rejected"
    assert row.error is not None
    assert {"code", "detail", "errors"} <= set(row.error)
