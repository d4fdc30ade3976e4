"""Job messages to be sent: rows written with the state they announce, published by the relay, then deleted.

A job message holds a task's name and one id. It may be lost or doubled without harm: the state in PostgreSQL decides.
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
"""The channel of PostgreSQL that tells the relay of new rows when their transaction commits."""


def enqueue(
    session: Session, task: str, subject: str, *, priority: int = 0, send_after: datetime | None = None
) -> None:
    """Have the relay send `task(subject)` once this transaction is committed (and not before `send_after`)."""
    row = OutboxRow(task=task, subject=subject, priority=priority, traceparent=tracing.traceparent())
    if send_after is not None:
        row.send_after = send_after
    session.add(row)
    session.execute(select(func.pg_notify(NOTIFICATION, "")))


def postpone(session: Session, task: str, subject: str, *, seconds: float, priority: int = 0) -> None:
    """Have the relay send a job message again after so long, as it could not be acted on here and now. One that is
    postponed already is enough: copies of a message would never end otherwise."""
    # Not one that is due: it may be the message itself, whose row the relay has yet to delete.
    waits = OutboxRow.send_after > func.clock_timestamp()
    if not session.scalar(select(exists().where(OutboxRow.task == task, OutboxRow.subject == subject, waits))):
        due = session.scalar(select(func.clock_timestamp() + timedelta(seconds=seconds)))
        enqueue(session, task, subject, priority=priority, send_after=due)


def postponed(session: Session, task: str) -> int:
    """How many job messages of a task are to be sent later."""
    waits = OutboxRow.send_after > func.clock_timestamp()
    return session.scalars(select(func.count()).where(OutboxRow.task == task, waits)).one()


def request_advance(session: Session, search_id: str) -> None:
    """Something happened that planning has to see: mark the search and wake the planner."""
    priority = session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(advance_wanted=True, woken_at=func.clock_timestamp())
        .returning(SearchRow.priority)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    enqueue(session, ADVANCE, search_id, priority=priority)


def send_due(session: Session, publish: Callable[[str, str, int], None], limit: int) -> int:
    """Hand due job messages to `publish(task, subject, priority)`, the most urgent first, and delete them; return how
    many. Each is published within the trace that it was written in.

    If `publish` raises, the transaction rolls back and all of them stay: some may be sent twice. Several relays may
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
