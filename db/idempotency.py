"""Answers to POST requests that carry an Idempotency-Key, kept in the transaction of what they did.

A key in flight is held by an advisory lock of its transaction, so that a crash leaves nothing behind: a row exists only
with the effect that it answers for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from paretofit.db.tables import IdempotencyRow


@dataclass(frozen=True, slots=True)
class Key:
    """A client's name for one request of one tenant to one route; `fingerprint` is the digest of its body."""

    tenant: str
    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An HTTP response as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class InFlightError(RuntimeError):
    """The first request with this key is not answered yet."""


class MismatchError(ValueError):
    """The key was used for another body."""


def claim(session: Session, key: Key) -> StoredResponse | None:
    """The answer that this key already has; None: this transaction is the one to give it, by `keep`.

    Raises InFlightError, MismatchError.
    """
    name = f"idempotency:{key.tenant}:{key.route}:{key.key}"
    if not session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 0)))):
        raise InFlightError(key.key)
    row = session.scalar(
        select(IdempotencyRow).where(
            IdempotencyRow.tenant_id == key.tenant, IdempotencyRow.route == key.route, IdempotencyRow.key == key.key
        )
    )
    if row is None:
        return None
    if row.fingerprint != key.fingerprint:
        raise MismatchError(key.key)
    if row.status is None:
        raise InFlightError(key.key)
    return StoredResponse(row.status, row.headers or {}, row.body or b"")


def purge_expired(session: Session, seconds: float) -> int:
    """Remove the answers that are older than `seconds`; returns how many."""
    since = func.clock_timestamp() - timedelta(seconds=seconds)
    return len(
        session.scalars(
            delete(IdempotencyRow).where(IdempotencyRow.created_at < since).returning(IdempotencyRow.key)
        ).all()
    )


def keep(session: Session, key: Key, answer: StoredResponse) -> None:
    """Store the answer of a key that was claimed in this transaction."""
    session.add(
        IdempotencyRow(
            tenant_id=key.tenant,
            route=key.route,
            key=key.key,
            fingerprint=key.fingerprint,
            status=answer.status,
            headers=dict(answer.headers),
            body=answer.body,
        )
    )
