"""The registered worker processes and their heartbeats."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from paretofit.db.tables import WorkerRow


def beat(session: Session, name: str, *, queue: str, device: str | None, description: dict[str, Any]) -> None:
    """Register worker `name`, or update its heartbeat."""
    values = {"queue": queue, "device": device, "description": description}
    session.execute(
        insert(WorkerRow)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values | {"seen_at": func.clock_timestamp()})
    )


def deregister(session: Session, name: str) -> None:
    """Deregister worker `name` at shutdown."""
    session.execute(delete(WorkerRow).where(WorkerRow.name == name))


def seen_within(session: Session, seconds: float) -> Sequence[WorkerRow]:
    """The workers with a heartbeat within the last `seconds`, by name."""
    since = func.clock_timestamp() - timedelta(seconds=seconds)
    return session.scalars(select(WorkerRow).where(WorkerRow.seen_at >= since).order_by(WorkerRow.name)).all()


def purge_expired(session: Session, seconds: float) -> None:
    """Delete workers without a heartbeat for `seconds`."""
    session.execute(delete(WorkerRow).where(WorkerRow.seen_at < func.clock_timestamp() - timedelta(seconds=seconds)))
