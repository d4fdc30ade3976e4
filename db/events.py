"""What happened in a search, as its users see it: appended in the transaction of the change, numbered without gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import webhooks
from paretofit.db.tables import EventRow, SearchRow

TYPES: Final[Mapping[str, str]] = {
    "search.created": "It was accepted. {}",
    "search.queued": "It waits again, after a pause. {}",
    "search.running": "Its first trial started, or it goes on after a pause. {}",
    "search.pause_requested": "It will be paused once its running trials have handed their work back. {}",
    "search.paused": "Nothing of it runs, and it plans nothing more, until it is resumed. {}",
    "search.resumed": "A pause, or a request for one, was taken back. {}",
    "search.changed": "It has other limits or another priority now. {limits} or {priority}",
    "search.cancel_requested": "It will be cancelled once none of its trials runs. {}",
    "search.succeeded": "It is over. {stop_reason, points, warnings}",
    "search.failed": "It is over and found nothing. {error}",
    "search.cancelled": "It is over. {points, warnings}",
    "trial.queued": "A trial waits: new (reason planned), or again (drained | crashed | lost). {reason}",
    "trial.running": "A worker claimed a trial. {worker, device}",
    "trial.completed": "A trial returned its outputs. {}",
    "trial.pruned": "A trial was stopped because others dominate it. {}",
    "trial.infeasible": "A trial cannot meet the constraints. {error}",
    "trial.failed": "A trial failed for good. {error}",
    "trial.cancelled": "A trial was cancelled; nothing of it runs any more. {}",
    "front.updated": "Points were added or replaced. {front_seq, trial, number, points}",
}
"""Every type of event, and what its data holds; `trial.*` hold also {trial, number, epoch}. A search's last event is
search.succeeded, .failed or .cancelled."""

CHANNEL: Final = "paretofit:events"
"""The relay publishes a search's id on this channel of Redis when events of it were committed. A notification only: it
may be lost or doubled (Redis or the relay may be away), so whoever subscribes also looks into the database by
itself."""

NOTIFICATION: Final = "paretofit_events"
"""The channel of PostgreSQL that tells the relay; delivered when the transaction commits, and only then."""


def append(session: Session, search_id: str, kind: str, data: dict[str, Any]) -> int:
    """Write the next event of a search, for its readers and for webhooks, and return its number.

    The counter on the search's row is locked until the transaction ends, so numbers have no gaps and no reader sees
    number n+1 before n. Raises LookupError for an unknown search, ValueError for a type that `TYPES` does not list.
    """
    if kind not in TYPES:
        raise ValueError(f"no event type {kind!r}; paretofit.db.events.TYPES lists them")
    row = session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(event_seq=SearchRow.event_seq + 1)
        .returning(SearchRow.event_seq, SearchRow.tenant_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise LookupError(f"no search {search_id}")
    session.add(EventRow(search_id=search_id, seq=row.event_seq, tenant_id=row.tenant_id, type=kind, data=data))
    session.execute(select(func.pg_notify(NOTIFICATION, search_id)))
    webhooks.announce(session, row.tenant_id, search_id, row.event_seq, kind, data)
    return int(row.event_seq)


def after(session: Session, search_id: str, seq: int, limit: int) -> Sequence[EventRow]:
    """The events of a search with a number above `seq`, oldest first, at most `limit`."""
    return session.scalars(
        select(EventRow).where(EventRow.search_id == search_id, EventRow.seq > seq).order_by(EventRow.seq).limit(limit)
    ).all()
