"""API keys `pf_<id>_<secret><checksum>`: shown once, stored as the digest of their secret, rotated with overlap.

The checksum (CRC-32) lets secret scanners distinguish a key from a similar string. The secret has 256 random bits, so a
fast hash is sufficient.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import tenants
from paretofit.db.keyset import Keyset, newest_first
from paretofit.db.tables import ApiKeyRow

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 43
_CHECKSUM_LENGTH: Final = 6
_KEY: Final = re.compile(
    rf"(?P<stem>pf_(?P<id>[0-9A-Za-z]{{{_ID_LENGTH}}})_(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}}))"
    rf"(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)
_USED_AT_PRECISION: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A well-formed key."""

    id: str
    secret: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        """The stored digest of the secret."""
        return hashlib.sha256(self.secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key; `text` is shown once."""

    row: ApiKeyRow
    text: str = field(repr=False)


def parse(text: str) -> Parsed | None:
    """The parts of a key; None if it is malformed."""
    match = _KEY.fullmatch(text)
    if match is None or match["checksum"] != _checksum(match["stem"]):
        return None
    return Parsed(match["id"], match["secret"])


def issue(session: Session, tenant: str, *, name: str, scopes: Sequence[str], expires_at: datetime | None) -> Issued:
    """Issue a key of a tenant, which is created if necessary."""
    tenants.ensure(session, tenant)
    stem = f"pf_{_random(_ID_LENGTH)}_{_random(_SECRET_LENGTH)}"
    text = stem + _checksum(stem)
    parsed = parse(text)
    assert parsed is not None
    row = ApiKeyRow(
        id=parsed.id,
        tenant_id=tenant,
        name=name,
        scopes=sorted(set(scopes)),
        digest=parsed.digest,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return Issued(row, text)


def find(session: Session, parsed: Parsed) -> ApiKeyRow | None:
    """The row of a key if it is valid and usable; updates its `used_at`, to the minute."""
    row = session.get(ApiKeyRow, parsed.id)
    known = row.digest if row is not None else bytes(32)
    if not hmac.compare_digest(known, parsed.digest) or row is None or not usable(row):
        return None
    now = datetime.now(UTC)
    if row.used_at is None or now - row.used_at > _USED_AT_PRECISION:
        session.execute(
            update(ApiKeyRow)
            .where(ApiKeyRow.id == row.id)
            .values(used_at=now)
            .execution_options(synchronize_session=False)
        )
    return row


def usable(row: ApiKeyRow) -> bool:
    """Whether a key is neither revoked nor expired."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > datetime.now(UTC))


def get(session: Session, tenant: str, key_id: str) -> ApiKeyRow | None:
    """A key of this tenant."""
    return session.scalar(select(ApiKeyRow).where(ApiKeyRow.id == key_id, ApiKeyRow.tenant_id == tenant))


def page(session: Session, tenant: str, *, after: Keyset | None, limit: int) -> Sequence[ApiKeyRow]:
    """At most `limit` keys, newest first."""
    query = select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant)
    return session.scalars(newest_first(query, ApiKeyRow.created_at, ApiKeyRow.id, after).limit(limit)).all()


def rotate(session: Session, row: ApiKeyRow, *, overlap: timedelta, expires_at: datetime | None) -> Issued | None:
    """Issue a successor with the same name and scopes; the old key stays valid for `overlap`. None: the key is not
    usable any more, or already has a successor."""
    locked = session.scalars(
        select(ApiKeyRow).where(ApiKeyRow.id == row.id).with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    if locked is None or locked.successor_id is not None or not usable(locked):
        return None
    successor = issue(session, locked.tenant_id, name=locked.name, scopes=locked.scopes, expires_at=expires_at)
    last = datetime.now(UTC) + overlap
    locked.expires_at = last if locked.expires_at is None else min(last, locked.expires_at)
    locked.successor_id = successor.row.id
    session.flush()
    return successor


def revoke(session: Session, tenant: str, key_id: str) -> bool:
    """Revoke a key at once, with the sessions that were opened with it. False: it does not exist."""
    revoked = session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.id == key_id, ApiKeyRow.tenant_id == tenant)
        .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.clock_timestamp()))
        .returning(ApiKeyRow.id)
        .execution_options(synchronize_session=False)
    )
    return revoked.one_or_none() is not None


def _random(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _checksum(stem: str) -> str:
    value, digits = zlib.crc32(stem.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
