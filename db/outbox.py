"""The outbox of job messages: rows are written in the transaction of the state change that they announce, published by
the relay, then deleted.

A job message is a task name and one id. It may be lost or duplicated without harm: the state in PostgreSQL decides.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from paretofit.core import tracing
from paretofit.db.tables import OutboxRow, SearchRow

ADVANCE = "advance"
TRAIN = "train"
INGEST = "ingest"
CONVERT = "convert"
EXPORT = "export"
DELIVER = "deliver"

NOTIFICATION: Final = "paretofit_outbox"
"""PostgreSQL channel that notifies the relay of new rows when their transaction commits."""


def enqueue(
    session: Session, task: str, subject: str, *, priority: int = 0, send_after: datetime | None = None
) -> None:
    """Have the relay send `task(subject)` after this transaction commits, and not before `send_after`."""
    row = OutboxRow(task=task, subject=subject, priority=priority, traceparent=tracing.traceparent())
    if send_after is not None:
        row.send_after = send_after
    session.add(row)
    session.execute(select(func.pg_notify(NOTIFICATION, "")))


def postpone(session: Session, task: str, subject: str, *, seconds: float, priority: int = 0) -> None:
    """Have the relay resend a job message after `seconds`, because it cannot be handled now. Does nothing if it is
    already postponed, so that copies do not multiply."""
    # A row that is due does not count: it may be this message itself, which the relay has yet to delete.
    is_postponed = OutboxRow.send_after > func.clock_timestamp()
    if not session.scalar(select(exists().where(OutboxRow.task == task, OutboxRow.subject == subject, is_postponed))):
        due = session.scalar(select(func.clock_timestamp() + timedelta(seconds=seconds)))
        enqueue(session, task, subject, priority=priority, send_after=due)


def postponed(session: Session, task: str) -> int:
    """Number of postponed job messages of a task."""
    is_postponed = OutboxRow.send_after > func.clock_timestamp()
    return session.scalars(select(func.count()).where(OutboxRow.task == task, is_postponed)).one()


def request_advance(session: Session, search_id: str) -> None:
    """Request planning of a search after a change: set its flag and enqueue the planner."""
    priority = session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(advance_wanted=True, woken_at=func.clock_timestamp())
        .returning(SearchRow.priority)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    enqueue(session, ADVANCE, search_id, priority=priority)


def send_due(session: Session, publish: Callable[[str, str, int], None], limit: int) -> int:
    """Publish due job messages by `publish(task, subject, priority)`, highest priority first, delete them, and return
    their number. Each is published within the trace in which it was written.

    If `publish` raises, the transaction rolls back and all of them stay, so some may be sent twice. Several relays may
    run at once.
    """
    rows = session.scalars(
        select(OutboxRow)
        .where(OutboxRow.send_after <= func.clock_timestamp())
        .order_by(OutboxRow.priority.desc(), OutboxRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        with tracing.within(row.traceparent):
            publish(row.task, row.subject, row.priority)
    if rows:
        session.execute(delete(OutboxRow).where(OutboxRow.id.in_([row.id for row in rows])))
    return len(rows)
