"""Garbage collection: deletes old unreferenced blobs, partial files of interrupted writes, abandoned uploads and stored
responses to Idempotency-Keys.

`paretofit.db.references` describes how blobs are deleted safely.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, select

from paretofit.db import idempotency, references, uploads
from paretofit.db.blobs import BlobMissingError, BlobStore
from paretofit.db.engine import transaction

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Collected:
    """Number of deleted blobs and their bytes, partial files, uploads and stored responses."""

    blobs: int
    size: int
    partial: int
    uploads: int
    responses: int

    def __bool__(self) -> bool:
        return bool(self.blobs or self.partial or self.uploads or self.responses)


def collect(engine: Engine, store: BlobStore, *, uploads: Path, seconds: float) -> Collected:
    """Delete garbage that is older than `seconds`. `uploads` is the folder of incomplete uploads, named by the id of
    their dataset or weights.

    Several collections may run at once. Raises OSError.
    """
    before = datetime.now(UTC) - timedelta(seconds=seconds)
    sizes = _blobs(engine, store, before)
    with transaction(engine) as session:
        responses = idempotency.purge_expired(session, seconds)
    return Collected(
        blobs=len(sizes),
        size=sum(sizes),
        partial=store.discard_partial(before),
        uploads=_uploads(engine, uploads, before),
        responses=responses,
    )


def _blobs(engine: Engine, store: BlobStore, before: datetime) -> list[int]:
    """Delete unreferenced blobs and return their sizes."""
    sizes: list[int] = []
    old = (blob.sha256 for blob in store.list() if blob.put_at < before)
    while batch := set(islice(old, _BATCH)):
        with transaction(engine) as session:
            unreferenced = batch - references.referenced(session, batch)
        if unreferenced:
            with transaction(engine) as session:
                references.lock_exclusive(session)
                for sha256 in sorted(unreferenced - references.referenced(session, unreferenced)):
                    with suppress(BlobMissingError):
                        blob = store.find(sha256)
                        # A blob that was written again meanwhile is about to be referenced.
                        if blob.put_at < before:
                            # Raises if PostgreSQL ended the session, and so the lock, while the store was slow.
                            session.execute(select(1))
                            store.delete(sha256)
                            sizes.append(blob.size)
    return sizes


def _uploads(engine: Engine, folder: Path, before: datetime) -> int:
    removed = 0
    for path in _files(folder):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            # A writer holds this lock (`paretofit.api.uploads`).
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                with transaction(engine) as session:
                    uploads.abandon(session, path.name)
                path.unlink()
                removed += 1
    return removed


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
