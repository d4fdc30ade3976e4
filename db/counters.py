"""Counters of rare events in any process, stored in the database for `/metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from paretofit.db.tables import CounterRow

STALE_WRITES: Final = "stale_writes"
LOST_STEPS: Final = "lost_steps"
DIGEST_MISMATCHES: Final = "digest_mismatches"
UPLOADS_REJECTED: Final = "uploads_rejected"


def add(session: Session, name: str, label: str = "", *, amount: int = 1) -> None:
    """Increment a counter. Call it last in a transaction: others that increment the same counter wait for its end."""
    session.execute(
        insert(CounterRow)
        .values(name=name, label=label, value=amount)
        .on_conflict_do_update(index_elements=["name", "label"], set_={"value": CounterRow.value + amount})
    )


def read(session: Session) -> Sequence[CounterRow]:
    """All counters."""
    return session.scalars(select(CounterRow).order_by(CounterRow.name, CounterRow.label)).all()
