"""Whether the relay keeps up: how many job messages it should have sent long ago."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from paretofit.db.tables import OutboxRow


def overdue_wake_ups(session: Session, seconds: float) -> int:
    """The job messages that have been due for more than `seconds`."""
    since = func.clock_timestamp() - timedelta(seconds=seconds)
    return session.scalar(select(func.count()).select_from(OutboxRow).where(OutboxRow.send_after < since)) or 0
