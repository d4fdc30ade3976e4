"""Dashboard sessions: a cookie with 256 random bits, stored as its digest."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from paretofit.db import keys
from paretofit.db.tables import ApiKeyRow, SessionRow


def begin(
    session: Session, tenant: str, *, key_id: str | None, bootstrap: bytes | None, seconds: float
) -> tuple[str, datetime]:
    """Create a session for an API key, or for the bootstrap key with this digest; returns its cookie and expiry."""
    token = secrets.token_urlsafe(32)
    expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
    session.add(
        SessionRow(digest=_digest(token), tenant_id=tenant, key_id=key_id, bootstrap=bootstrap, expires_at=expires_at)
    )
    return token, expires_at


def find(session: Session, token: str) -> tuple[SessionRow, ApiKeyRow | None] | None:
    """The session of a cookie and its API key, if both are valid. A session of the bootstrap key has no API key; the
    caller checks the bootstrap digest."""
    found = session.execute(
        select(SessionRow, ApiKeyRow)
        .outerjoin(ApiKeyRow, ApiKeyRow.id == SessionRow.key_id)
        .where(SessionRow.digest == _digest(token), SessionRow.expires_at > func.clock_timestamp())
    ).one_or_none()
    if found is None:
        return None
    row, key = found
    return None if key is not None and not keys.usable(key) else (row, key)


def end(session: Session, token: str) -> None:
    """Delete a session."""
    session.execute(delete(SessionRow).where(SessionRow.digest == _digest(token)))


def purge_expired(session: Session) -> None:
    """Delete expired sessions."""
    session.execute(delete(SessionRow).where(SessionRow.expires_at < func.clock_timestamp()))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
