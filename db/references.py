"""References from rows to blobs: how rows begin to reference blobs, and how unreferenced blobs are deleted, without a
race between the two.

A blob is written first and referenced afterwards, and the same content may already have been stored, unreferenced, for
a long time. Therefore

- a transaction that adds a reference holds a shared advisory lock until its commit, and checks under it that the blob
  exists;
- the garbage collector holds the lock exclusively, checks under it which blobs are referenced, and releases it after
  deleting the others.

Either the reference is committed before the collector checks, and the collector sees it; or the blob is deleted first,
and the transaction sees that. So no row ever references a collected blob, on any number of machines and whatever their
clocks say. In practice a blob is never missing: writing it renews its age, and only old blobs are deleted
(`paretofit.db.garbage_collection`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from paretofit.db.blobs import BlobMissingError, BlobStore

_LOCK: Final = 0x626C_6F62
_REFERENCED: Final = text("""
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
"""All references from rows to blobs. An uploaded weights file is referenced until it is converted."""


class BlobCollectedError(OSError):
    """A blob to be referenced was deleted since it was written: write it again."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"blob {sha256} was garbage-collected before it was referenced: write it again")
        self.sha256 = sha256


def pin(session: Session, store: BlobStore, digests: Iterable[str]) -> None:
    """Keep these blobs from being collected until the transaction that references them ends. Raises
    BlobCollectedError."""
    pinned = sorted(set(digests))
    if not pinned:
        return
    session.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))
    for sha256 in pinned:
        try:
            store.find(sha256)
        except BlobMissingError as error:
            raise BlobCollectedError(sha256) from error


def lock_exclusive(session: Session) -> None:
    """Prevent new references to blobs until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def referenced(session: Session, digests: Collection[str]) -> set[str]:
    """The subset of these blobs that rows reference."""
    return set(session.scalars(_REFERENCED, {"digests": list(digests)}))
