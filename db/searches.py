"""Searches: rows, lists, progress and usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import case, func, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session, defer

from paretofit.db import events, outbox, states, tenants
from paretofit.db.blobs import Blob
from paretofit.db.ids import new_id
from paretofit.db.keyset import Keyset, newest_first
from paretofit.db.tables import ArtifactRow, AttemptRow, EventRow, SearchRow, TrialRow
from paretofit.search.contracts.plan import INITIAL

CREATED = "search.created"


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of a search's trials by state, and the sum of their progress."""

    states: dict[str, int] = field(default_factory=dict)
    done: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """The usage of a search's attempts."""

    device_seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Past:
    """A search that succeeded: its specification, the data of its first event, and its device time."""

    spec: dict[str, Any]
    created: dict[str, Any]
    device_seconds: float


@dataclass(frozen=True, slots=True)
class DatasetSearch:
    """A search of a dataset; `spec` is the `constraints` and `objectives` of its specification."""

    id: str
    name: str
    method: str
    front_seq: int
    spec: dict[str, Any]


def insert(
    session: Session,
    tenant: str,
    *,
    spec: Mapping[str, Any],
    dataset_id: str,
    created: dict[str, Any],
    initial: Blob | None = None,
) -> SearchRow:
    """Insert a search in state `queued`, with its first event (`created` is its data) and its first planning message.

    `spec` is the resolved specification as JSON. `initial` is the file that its trials start from. The search gets
    its own artifact for it, so the point or the weights that it comes from may be deleted.
    """
    row = SearchRow(
        id=new_id("srch"),
        tenant_id=tenant,
        name=spec["name"],
        method=spec["method"]["kind"],
        spec=dict(spec),
        limits=spec["limits"],
        labels=spec["labels"],
        priority=spec["priority"],
        dataset_id=dataset_id,
    )
    session.add(row)
    session.flush()
    if initial is not None:
        file = {"name": INITIAL, "sha256": initial.sha256, "size": initial.size}
        session.add(ArtifactRow(id=new_id("art"), tenant_id=tenant, search_id=row.id, **file))
    events.append(session, row.id, CREATED, created)
    outbox.enqueue(session, outbox.ADVANCE, row.id, priority=row.priority)
    session.flush()
    session.refresh(row)
    return row


def get(session: Session, tenant: str, search_id: str) -> SearchRow | None:
    """A search of this tenant."""
    return session.scalar(select(SearchRow).where(SearchRow.id == search_id, SearchRow.tenant_id == tenant))


def page(
    session: Session,
    tenant: str,
    *,
    state: str | None,
    method: str | None,
    label: str | None,
    after: Keyset | None,
    limit: int,
) -> Sequence[SearchRow]:
    """At most `limit` searches, newest first, their specifications not loaded. `label` is a name, or `name:value`."""
    query = select(SearchRow).options(defer(SearchRow.spec, raiseload=True)).where(SearchRow.tenant_id == tenant)
    if state is not None:
        query = query.where(SearchRow.state == state)
    if method is not None:
        query = query.where(SearchRow.method == method)
    if label is not None:
        # Label names may contain colons.
        colons = [at for at, letter in enumerate(label) if letter == ":"]
        pairs = [SearchRow.labels.contains({label[:at]: label[at + 1 :]}) for at in colons]
        query = query.where(or_(SearchRow.labels.has_key(label), *pairs))
    return session.scalars(newest_first(query, SearchRow.created_at, SearchRow.id, after).limit(limit)).all()


def of_dataset(session: Session, tenant: str, dataset_id: str) -> list[DatasetSearch]:
    """The searches of a dataset in any state, oldest first."""
    rows = session.execute(
        select(
            SearchRow.id,
            SearchRow.name,
            SearchRow.method,
            SearchRow.front_seq,
            SearchRow.spec["constraints"],
            SearchRow.spec["objectives"],
        )
        .where(SearchRow.dataset_id == dataset_id, SearchRow.tenant_id == tenant)
        .order_by(SearchRow.created_at, SearchRow.id)
    )
    return [
        DatasetSearch(search_id, name, method, front_seq, {"constraints": constraints, "objectives": objectives})
        for search_id, name, method, front_seq, constraints, objectives in rows
    ]


def describe(session: Session, search_id: str, *, name: str, labels: dict[str, str]) -> None:
    """Change the name and the labels of a search, in any state."""
    session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id)
        .values(name=name, labels=labels)
        .execution_options(synchronize_session=False)
    )


def delete(session: Session, tenant: str, search_id: str) -> bool:
    """Delete a search that has ended, with all of its data. False: it does not exist or has not ended; roll the
    transaction back."""
    tenants.preserve_usage(session, search_id)
    deleted = session.execute(
        sql_delete(SearchRow)
        .where(
            SearchRow.id == search_id,
            SearchRow.tenant_id == tenant,
            SearchRow.state.in_(states.terminal(states.SEARCH)),
        )
        .returning(SearchRow.id)
        .execution_options(synchronize_session=False)
    )
    return deleted.one_or_none() is not None


def tallies(session: Session, search_ids: Sequence[str]) -> dict[str, Tally]:
    """The tallies of several searches; one without trials has an empty tally."""
    done = case((TrialRow.state.in_(states.terminal(states.TRIAL)), 1.0), else_=TrialRow.progress)
    rows = session.execute(
        select(TrialRow.search_id, TrialRow.state, func.count(), func.sum(done))
        .where(TrialRow.search_id.in_(search_ids))
        .group_by(TrialRow.search_id, TrialRow.state)
    )
    found = {search_id: Tally() for search_id in search_ids}
    for search_id, state, count, fraction in rows:
        tally = found[search_id]
        found[search_id] = Tally({**tally.states, state: count}, tally.done + fraction)
    return found


def spent(session: Session, search_id: str) -> Spent:
    """The usage of a search so far; running attempts count until now."""
    attempts, seconds = session.execute(
        select(func.count(), func.coalesce(func.sum(_seconds()), 0.0))
        .select_from(AttemptRow)
        .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
        .where(TrialRow.search_id == search_id)
    ).one()
    return Spent(device_seconds=float(seconds), attempts=attempts)


def creation(session: Session, search_id: str) -> dict[str, Any]:
    """The data of a search's first event; empty if there is none."""
    data = session.scalar(
        select(EventRow.data).where(EventRow.search_id == search_id, EventRow.seq == 1, EventRow.type == CREATED)
    )
    return data or {}


def succeeded(session: Session, tenant: str, method: str, *, limit: int) -> list[Past]:
    """The latest searches by this method that completed, newest first."""
    rows = session.execute(
        select(SearchRow.spec, EventRow.data, func.sum(_seconds()))
        .join(EventRow, (EventRow.search_id == SearchRow.id) & (EventRow.seq == 1) & (EventRow.type == CREATED))
        .join(TrialRow, TrialRow.search_id == SearchRow.id)
        .join(AttemptRow, AttemptRow.trial_id == TrialRow.id)
        .where(
            SearchRow.tenant_id == tenant,
            SearchRow.method == method,
            SearchRow.state == "succeeded",
            SearchRow.stop_reason == "completed",
        )
        .group_by(SearchRow.id, EventRow.search_id, EventRow.seq)
        .order_by(SearchRow.created_at.desc(), SearchRow.id.desc())
        .limit(limit)
    )
    return [Past(spec=spec, created=created, device_seconds=float(seconds)) for spec, created, seconds in rows]


def _seconds() -> Any:
    return func.extract("epoch", func.coalesce(AttemptRow.ended_at, func.clock_timestamp()) - AttemptRow.computing_at)
