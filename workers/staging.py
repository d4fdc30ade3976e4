"""Stages blobs as local files: datasets in a cache shared by attempts, inputs and checkpoints in scratch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from paretofit.db.blobs import Blob, BlobStore

MANIFEST: Final = "paretofit-manifest.json"


def dataset(
    blobs: BlobStore,
    cache: Path,
    dataset_id: str,
    manifest: Mapping[str, Mapping[str, Any]],
    *,
    partial: Path,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """The dataset's folder under `cache`, downloaded if necessary. Its manifest, written last, marks it as complete.

    The download goes to `partial`, a new folder on the same file system that is removed with the attempt. `check` is
    called periodically and may raise. Raises BlobMissingError, BlobCorruptError, OSError.
    """
    folder = cache / dataset_id
    if _is_complete(folder, manifest):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    try:
        files(blobs, partial, manifest, check)
        with (partial / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        if not _is_complete(folder, manifest):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                partial.rename(folder)
            except OSError:
                # Another worker on this machine may have staged it meanwhile.
                if not _is_complete(folder, manifest):
                    raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def files(
    blobs: BlobStore,
    folder: Path,
    manifest: Mapping[str, Mapping[str, Any]],
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Write every file of a manifest {name: {sha256, size}} into a new folder, verified."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in manifest.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"the manifest names a file outside its folder: {name!r}")
        blobs.fetch(blob["sha256"], folder / path, check)
    return folder


def store(blobs: BlobStore, folder: Path) -> dict[str, dict[str, Any]]:
    """Store every file under `folder`; returns the manifest from which `files` restores them. Raises OSError."""
    manifest: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            blob: Blob = blobs.put(path)
            manifest[path.relative_to(folder).as_posix()] = {"sha256": blob.sha256, "size": blob.size}
    return manifest


def _is_complete(folder: Path, manifest: Mapping[str, Mapping[str, Any]]) -> bool:
    try:
        return bool(json.loads((folder / MANIFEST).read_text()) == manifest)
    except (FileNotFoundError, ValueError):
        return False
