"""Stored responses to POST requests with an Idempotency-Key, committed in the transaction of their effect.

A key in flight is held by an advisory lock of its transaction, so a crash leaves nothing behind: a response is stored
only together with its effect.
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
    """A client's key for a request of a tenant to a route; `fingerprint` is the digest of its body."""

    tenant: str
    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class InFlightError(RuntimeError):
    """The first request with this key is still in progress."""


class MismatchError(ValueError):
    """The key was used with another body."""


def claim(session: Session, key: Key) -> StoredResponse | None:
    """The stored response of this key; None: this transaction has to store it by `keep`.

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
    """Delete the responses that are older than `seconds`; returns their number."""
    since = func.clock_timestamp() - timedelta(seconds=seconds)
    return len(
        session.scalars(
            delete(IdempotencyRow).where(IdempotencyRow.created_at < since).returning(IdempotencyRow.key)
        ).all()
    )


def keep(session: Session, key: Key, response: StoredResponse) -> None:
    """Store the response of a key that was claimed in this transaction."""
    session.add(
        IdempotencyRow(
            tenant_id=key.tenant,
            route=key.route,
            key=key.key,
            fingerprint=key.fingerprint,
            status=response.status,
            headers=dict(response.headers),
            body=response.body,
        )
    )
