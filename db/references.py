"""How a file that is in the blob store comes to be named by a row, and how one that no row names is removed: never
both.

A blob is put first and named afterwards, and the same content may have been there for long, unnamed. So

- whoever commits a name holds a lock of PostgreSQL, shared, until the commit, and looks under it whether the blob is
  there;
- whoever removes blobs holds the lock alone, looks under it which of them are named, and lets go when they are removed.

A name is therefore committed before the collector looks, which sees it, or after the blob was removed, which the namer
sees: no row ever names a blob that was collected, on however many machines and whatever their clocks say. In practice
nobody finds a blob gone: a put makes it young, and only old ones are removed (`paretofit.db.garbage_collection`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from paretofit.db.blobs import BlobMissingError, BlobStore

_LOCK: Final = 0x626C_6F62
_NAMED: Final = text("""
    SELECT sha256 FROM artifacts WHERE sha256 = ANY(:digests)
    UNION
    SELECT file.value ->> 'sha256' FROM trials, jsonb_each(trials.checkpoint -> 'files') AS file
    WHERE file.value ->> 'sha256' = ANY(:digests)
    UNION
    SELECT file.value ->> 'sha256' FROM datasets, jsonb_each(datasets.manifest) AS file
    WHERE file.value ->> 'sha256' = ANY(:digests)
    UNION
    SELECT source ->> 'sha256' FROM datasets WHERE source ->> 'sha256' = ANY(:digests)
    UNION
    SELECT sha256 FROM weights WHERE sha256 = ANY(:digests)
    UNION
    SELECT source ->> 'sha256' FROM weights WHERE state = 'converting' AND source ->> 'sha256' = ANY(:digests)
""")
"""Every place where a row names a blob. An uploaded weights file is named until it is converted."""


class BlobCollectedError(OSError):
    """A blob that is to be named was removed since it was put: put it again."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"blob {sha256} was removed as an orphan before it was named: it must be written again")
        self.sha256 = sha256


def pin(session: Session, store: BlobStore, digests: Iterable[str]) -> None:
    """To be called in the transaction that names these blobs: from here to its end they stay. Raises
    BlobCollectedError."""
    wanted = sorted(set(digests))
    if not wanted:
        return
    session.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))
    for sha256 in wanted:
        try:
            store.find(sha256)
        except BlobMissingError as error:
            raise BlobCollectedError(sha256) from error


def lock_exclusive(session: Session) -> None:
    """Keep everybody from naming blobs until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def named(session: Session, digests: Collection[str]) -> set[str]:
    """Those of these blobs that a row names."""
    return set(session.scalars(_NAMED, {"digests": list(digests)}))
