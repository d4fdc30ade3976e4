"""Leftovers that are removed after a while: blobs that no row names, files of puts and uploads that never ended,
answers to Idempotency-Keys.

Blobs are removed as `paretofit.db.references` says.
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
    """How much was removed: blobs and their bytes, files of puts that never ended, uploads, answers."""

    blobs: int
    size: int
    partial: int
    uploads: int
    answers: int

    def __bool__(self) -> bool:
        return bool(self.blobs or self.partial or self.uploads or self.answers)


def collect(engine: Engine, store: BlobStore, *, uploads: Path, seconds: float) -> Collected:
    """Remove what was left over for `seconds`; `uploads` is the folder of files that still grow, by the id of their
    dataset or weights.

    Several may run at once. Raises OSError.
    """
    before = datetime.now(UTC) - timedelta(seconds=seconds)
    sizes = _blobs(engine, store, before)
    with transaction(engine) as session:
        answers = idempotency.purge_expired(session, seconds)
    return Collected(
        blobs=len(sizes),
        size=sum(sizes),
        partial=store.discard_partial(before),
        uploads=_uploads(engine, uploads, before),
        answers=answers,
    )


def _blobs(engine: Engine, store: BlobStore, before: datetime) -> list[int]:
    """Remove the blobs that nothing names; their sizes."""
    sizes: list[int] = []
    old = (blob.sha256 for blob in store.list() if blob.put_at < before)
    while batch := set(islice(old, _BATCH)):
        with transaction(engine) as session:
            orphans = batch - references.named(session, batch)
        if orphans:
            with transaction(engine) as session:
                references.lock_exclusive(session)
                for sha256 in sorted(orphans - references.named(session, orphans)):
                    with suppress(BlobMissingError):
                        blob = store.find(sha256)
                        # Whoever put it again meanwhile is about to name it.
                        if blob.put_at < before:
                            # Raises if PostgreSQL ended the session, and with it the lock, while a slow store answered.
                            session.execute(select(1))
                            store.delete(sha256)
                            sizes.append(blob.size)
    return sizes


def _uploads(engine: Engine, folder: Path, before: datetime) -> int:
    removed = 0
    for path in _files(folder):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            # Whoever writes to it holds this lock (`paretofit.api.uploads`).
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                with transaction(engine) as session:
                    uploads.abandon(session, path.name)
                path.unlink()
                removed += 1
    return removed


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
