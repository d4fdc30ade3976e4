from __future__ import annotations

import threading
from pathlib import Path
from uuid import uuid4

import pytest

from paretofit.db.blobs import BlobCorruptError, BlobMissingError, BlobStore, open_store
from paretofit.workers import staging
from paretofit.workers.scratch import scratch


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_store((tmp_path / "blobs").as_uri())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    created = tmp_path / "source"
    (created / "deep").mkdir(parents=True)
    (created / "images.bin").write_bytes(b"images")
    (created / "deep" / "labels.bin").write_bytes(b"labels")
    return created


def test_folder_survives_the_store(blobs: BlobStore, folder: Path, tmp_path: Path) -> None:
    manifest = staging.store(blobs, folder)
    assert sorted(manifest) == ["deep/labels.bin", "images.bin"]
    again = staging.files(blobs, tmp_path / "again", manifest)
    assert (again / "images.bin").read_bytes() == b"images"
    assert (again / "deep" / "labels.bin").read_bytes() == b"labels"


def test_concurrent_staging_creates_one_dataset(blobs: BlobStore, folder: Path, tmp_path: Path) -> None:
    manifest = staging.store(blobs, folder)
    cache = tmp_path / "cache"
    staged: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: staged.append(
                staging.dataset(blobs, cache, "ds_1", manifest, partial=tmp_path / uuid4().hex)
            )
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert staged == [cache / "ds_1"] * 6
    assert [path.name for path in cache.iterdir()] == ["ds_1"]
    assert (cache / "ds_1" / "images.bin").read_bytes() == b"images"


@pytest.mark.parametrize("manifest", [None, "", '{"images.bin": {'])
def test_incomplete_dataset_is_staged_again(
    blobs: BlobStore, folder: Path, tmp_path: Path, manifest: str | None
) -> None:
    (tmp_path / "cache" / "ds_1").mkdir(parents=True)
    if manifest is not None:
        (tmp_path / "cache" / "ds_1" / staging.MANIFEST).write_text(manifest)
    staged = staging.dataset(
        blobs, tmp_path / "cache", "ds_1", staging.store(blobs, folder), partial=tmp_path / "partial"
    )
    assert (staged / "images.bin").exists()


def test_damaged_or_missing_blobs_are_refused(blobs: BlobStore, folder: Path, tmp_path: Path) -> None:
    manifest = staging.store(blobs, folder)
    digest = manifest["images.bin"]["sha256"]
    stored = tmp_path / "blobs" / digest[:2] / digest
    stored.write_bytes(b"imagez")
    with pytest.raises(BlobCorruptError):
        staging.dataset(blobs, tmp_path / "cache", "ds_1", manifest, partial=tmp_path / "partial")
    stored.unlink()
    with pytest.raises(BlobMissingError):
        staging.dataset(blobs, tmp_path / "cache", "ds_1", manifest, partial=tmp_path / "partial")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b"])
def test_manifest_stays_in_its_folder(blobs: BlobStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="outside its folder"):
        staging.files(blobs, tmp_path / "x", {name: {"sha256": "a" * 64, "size": 1}})


def test_concurrent_scratch_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "stray").write_text("not a folder")
    failures: list[OSError] = []

    def attempts(worker: int) -> None:
        try:
            for number in range(200):
                with scratch(tmp_path, f"{worker}-{number}") as folder:
                    (folder / "file").write_text("x")
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=attempts, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == ["stray"]


def test_scratch_is_removed_with_abandoned_folders(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "file").write_text("from a killed attempt")
    with scratch(tmp_path, "a") as first, scratch(tmp_path, "b") as second:
        (first / "file").write_text("x")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
        assert second.is_dir()
    assert list(tmp_path.iterdir()) == []
