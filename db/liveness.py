"""Whether the relay keeps up with the outbox."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from paretofit.db.tables import OutboxRow


def overdue_job_messages(session: Session, seconds: float) -> int:
    """Number of job messages that have been due for more than `seconds`."""
    since = func.clock_timestamp() - timedelta(seconds=seconds)
    return session.scalar(select(func.count()).select_from(OutboxRow).where(OutboxRow.send_after < since)) or 0
