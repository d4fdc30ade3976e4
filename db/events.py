"""The events of a search for its users: appended in the transaction of the change, numbered without gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from paretofit.db import webhooks
from paretofit.db.tables import EventRow, SearchRow

TYPES: Final[Mapping[str, str]] = {
    "search.created": "The search was accepted. {}",
    "search.queued": "The search was resumed before its first trial had started. {}",
    "search.running": "The first trial started, or the search continues after a pause. {}",
    "search.pause_requested": "A pause was requested; it takes effect when running trials have saved their work. {}",
    "search.paused": "The search is paused: no trials are planned or run until it is resumed. {}",
    "search.resumed": "The pause, or the request for one, was revoked. {}",
    "search.changed": "The limits or the priority were changed. {limits} or {priority}",
    "search.cancel_requested": "Cancellation was requested; it takes effect when no trial is running. {}",
    "search.succeeded": "The search succeeded. {stop_reason, points, warnings}",
    "search.failed": "The search failed without a result. {error}",
    "search.cancelled": "The search was cancelled. {points, warnings}",
    "trial.queued": "A trial was queued: new (reason planned), or again (drained | crashed | lost). {reason}",
    "trial.running": "A worker claimed a trial. {worker, device}",
    "trial.completed": "A trial completed. {}",
    "trial.pruned": "A trial was pruned because other networks dominate it. {}",
    "trial.infeasible": "A trial cannot meet the constraints. {error}",
    "trial.failed": "A trial failed and is not retried. {error}",
    "trial.cancelled": "A trial was cancelled and its processes have ended. {}",
    "front.updated": "Points were added or replaced. {front_seq, trial, number, points}",
}
"""Every type of event with its data; `trial.*` also have {trial, number, epoch}. The last event of a search is
search.succeeded, .failed or .cancelled."""

CHANNEL: Final = "paretofit:events"
"""Redis channel on which the relay publishes a search's id when events of it were committed. Notifications may be lost
or duplicated (Redis or the relay may be down), so subscribers also poll the database."""

NOTIFICATION: Final = "paretofit_events"
"""PostgreSQL channel that notifies the relay when the transaction commits."""


def append(session: Session, search_id: str, kind: str, data: dict[str, Any]) -> int:
    """Append an event to a search, enqueue its webhook deliveries, and return its number.

    The counter in the search's row is locked until the transaction ends, so numbers have no gaps and no reader sees
    number n+1 before n. Raises LookupError for an unknown search, ValueError for a type that `TYPES` does not list.
    """
    if kind not in TYPES:
        raise ValueError(f"unknown event type {kind!r}: use one of paretofit.db.events.TYPES")
    row = session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(event_seq=SearchRow.event_seq + 1)
        .returning(SearchRow.event_seq, SearchRow.tenant_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise LookupError(f"unknown search {search_id}")
    session.add(EventRow(search_id=search_id, seq=row.event_seq, tenant_id=row.tenant_id, type=kind, data=data))
    session.execute(select(func.pg_notify(NOTIFICATION, search_id)))
    webhooks.enqueue_deliveries(session, row.tenant_id, search_id, row.event_seq, kind, data)
    return int(row.event_seq)


def after(session: Session, search_id: str, seq: int, limit: int) -> Sequence[EventRow]:
    """The events of a search with a number above `seq`, oldest first, at most `limit`."""
    return session.scalars(
        select(EventRow).where(EventRow.search_id == search_id, EventRow.seq > seq).order_by(EventRow.seq).limit(limit)
    ).all()
