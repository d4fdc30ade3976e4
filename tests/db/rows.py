"""Rows for tests: datasets, searches, trials and their leases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from paretofit.db import outbox
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.leases import Lease, claim
from paretofit.db.planning import advance
from paretofit.db.tables import DatasetRow, EventRow, OutboxRow, SearchRow, TrialRow, WeightsRow

PROFILE: dict[str, Any] = {
    "classes": ["a", "b"],
    "channels": 1,
    "image_size": [32, 32],
    "images": {"train": 8, "selection": 1, "report": 1},
    "mean": [0.5],
    "std": [0.5],
    "fingerprint": "f",
}


def add_dataset(engine: Engine, **values: Any) -> str:
    """Add a dataset, by default ready and without files. Returns its id."""
    fields: dict[str, Any] = {
        "name": "data",
        "state": "ready",
        "source": {"kind": "builtin", "name": "fashion_mnist"},
        "manifest": {},
        "profile": PROFILE,
        "fingerprint": "f",
    }
    row = DatasetRow(id=new_id("ds"), **fields | values)
    with transaction(engine) as session:
        session.add(row)
    return row.id


RECORD: dict[str, Any] = {
    "kind": "weights",
    "version": 1,
    "family": "fd_mobilenet",
    "width": 0.25,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "channels": 3,
    "nominal": 32,
    "classes": None,
    "layout": "paretofit",
    "source": "mine",
    "sha256": "a" * 64,
    "licence": "MIT",
    "dropped": [],
    "dropped_count": 0,
    "notes": [],
}


def add_weights(engine: Engine, **values: Any) -> str:
    """Add weights, by default ready, whose file is not in any store. Returns their id."""
    fields: dict[str, Any] = {"name": "mine", "state": "ready", "source": {"kind": "upload"}}
    if values.get("state", "ready") == "ready":
        fields |= {"record": RECORD, "sha256": "d" * 64, "size": 9}
    row = WeightsRow(id=new_id("wts"), **fields | values)
    with transaction(engine) as session:
        session.add(row)
    return row.id


def add_search(
    engine: Engine,
    *,
    method: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    dataset_id: str | None = None,
) -> str:
    """Add a queued search with its job message. Returns its id."""
    spec: dict[str, Any] = {
        "name": "count",
        "dataset_id": dataset_id or add_dataset(engine),
        "method": method or {"kind": "mutualnet"},
        "dataset": PROFILE,
        "limits": limits or {},
        "labels": labels or {},
    }
    row = SearchRow(
        id=new_id("srch"),
        name="count",
        method=spec["method"]["kind"],
        spec=spec,
        limits=spec["limits"],
        labels=spec["labels"],
        dataset_id=spec["dataset_id"],
    )
    with transaction(engine) as session:
        session.add(row)
        session.flush()
        outbox.enqueue(session, outbox.ADVANCE, row.id)
    return row.id


def plan(engine: Engine, search_id: str) -> list[str]:
    """Advance a search. Returns the ids of its trials in their order."""
    advance(engine, search_id)
    return [row.id for row in trials(engine, search_id)]


def trials(engine: Engine, search_id: str) -> list[TrialRow]:
    """A search's trials in their order."""
    with transaction(engine) as session:
        query = select(TrialRow).where(TrialRow.search_id == search_id).order_by(TrialRow.number)
        return list(session.scalars(query))


def trial(engine: Engine, trial_id: str) -> TrialRow:
    """The current row of a trial."""
    with transaction(engine) as session:
        return session.get_one(TrialRow, trial_id)


def search(engine: Engine, search_id: str) -> SearchRow:
    """The current row of a search."""
    with transaction(engine) as session:
        return session.get_one(SearchRow, search_id)


def dataset(engine: Engine, dataset_id: str) -> DatasetRow:
    """The current row of a dataset."""
    with transaction(engine) as session:
        return session.get_one(DatasetRow, dataset_id)


def weights(engine: Engine, weights_id: str) -> WeightsRow:
    """The current row of weights."""
    with transaction(engine) as session:
        return session.get_one(WeightsRow, weights_id)


def events(engine: Engine, search_id: str) -> list[EventRow]:
    """A search's events in their order."""
    with transaction(engine) as session:
        query = select(EventRow).where(EventRow.search_id == search_id).order_by(EventRow.seq)
        return list(session.scalars(query))


def event_types(engine: Engine, search_id: str) -> list[str]:
    """The types of a search's events in their order."""
    return [event.type for event in events(engine, search_id)]


def pop_messages(engine: Engine) -> list[tuple[str, str]]:
    """Empty the outbox. Returns its messages as (task, subject)."""
    with transaction(engine) as session:
        rows = session.scalars(select(OutboxRow).order_by(OutboxRow.id)).all()
        for row in rows:
            session.delete(row)
        return [(row.task, row.subject) for row in rows]


def take(engine: Engine, trial_id: str, *, owner: str = "w", seconds: float = 60.0) -> Lease:
    """Claim a trial that can be claimed."""
    with transaction(engine) as session:
        lease = claim(session, trial_id, owner=owner, device="cpu", seconds=seconds)
    assert lease is not None
    return lease
