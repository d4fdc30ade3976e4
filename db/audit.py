"""The audit log: every request that may change data, with its actor and response status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from paretofit.db.tables import AuditRow


def page(session: Session, tenant: str, *, before: int | None, limit: int) -> Sequence[AuditRow]:
    """At most `limit` entries of a tenant with a number below `before`, the latest first."""
    query = select(AuditRow).where(AuditRow.tenant_id == tenant)
    if before is not None:
        query = query.where(AuditRow.id < before)
    return session.scalars(query.order_by(AuditRow.id.desc()).limit(limit)).all()


def purge_expired(session: Session, seconds: float) -> None:
    """Delete the entries that are older than `seconds`."""
    session.execute(delete(AuditRow).where(AuditRow.at < func.clock_timestamp() - timedelta(seconds=seconds)))
