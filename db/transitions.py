"""The only statements that write a state: guarded by `paretofit.db.states`, each with its event.

Every transaction that changes states or appends events locks the search's row first (`lock_search`), then trials:
one order, so no two of them wait for each other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Double, Row, case, cast, extract, func, select, update
from sqlalchemy.orm import Session

from paretofit.db import events, states
from paretofit.db.tables import DatasetRow, DeliveryRow, ExportRow, SearchRow, TrialRow, WeightsRow


def lock_search(session: Session, search_id: str) -> SearchRow | None:
    """The search's row as it is now, locked until the transaction ends; None if there is none."""
    return session.scalars(
        select(SearchRow)
        .where(SearchRow.id == search_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def move_search(
    session: Session, search_id: str, target: str, data: dict[str, Any] | None = None, **values: Any
) -> bool:
    """Bring a search into state `target` with these column values and the event `search.<target>`.

    Returns whether it was in a state from which that is allowed; if not, nothing changes.
    """
    if target in states.terminal(states.SEARCH):
        values["finished_at"] = func.clock_timestamp()
    if target == "paused":
        values["paused_at"] = func.clock_timestamp()
    else:
        paused = cast(extract("epoch", func.clock_timestamp() - SearchRow.paused_at), Double)
        counted = func.coalesce(case((SearchRow.started_at.is_not(None), paused)), 0.0)
        values |= {"paused_at": None, "paused_seconds": SearchRow.paused_seconds + counted}
    moved = session.execute(
        update(SearchRow)
        .where(SearchRow.id == search_id, SearchRow.state.in_(states.sources(states.SEARCH, target)))
        .values(state=target, **values)
        .returning(SearchRow.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if moved is not None:
        events.append(session, search_id, f"search.{target}", data or {})
    return moved is not None


def move_trial(
    session: Session,
    trial_id: str,
    target: str,
    *guards: ColumnElement[bool],
    data: dict[str, Any] | None = None,
    **values: Any,
) -> Row[str, int, int] | None:
    """Bring a trial into state `target` with these column values and the event `trial.<target>`.

    Returns (search_id, number, lease_epoch), or None with nothing changed if its state does not allow it or one of
    `guards` does not hold. A trial that does not run holds no lease.
    """
    if target != "running":
        values |= {"lease_owner": None, "lease_expires_at": None}
    if target in states.terminal(states.TRIAL):
        values["finished_at"] = func.clock_timestamp()
    moved = session.execute(
        update(TrialRow)
        .where(TrialRow.id == trial_id, TrialRow.state.in_(states.sources(states.TRIAL, target)), *guards)
        .values(state=target, **values)
        .returning(TrialRow.search_id, TrialRow.number, TrialRow.lease_epoch)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if moved is not None:
        about = {"trial": trial_id, "number": moved.number, "epoch": moved.lease_epoch}
        events.append(session, moved.search_id, f"trial.{target}", about | (data or {}))
    return moved


def move_dataset(session: Session, dataset_id: str, target: str, *guards: ColumnElement[bool], **values: Any) -> bool:
    """Bring a dataset into state `target` with these column values; returns whether its state and `guards` allowed."""
    moved = session.execute(
        update(DatasetRow)
        .where(DatasetRow.id == dataset_id, DatasetRow.state.in_(states.sources(states.DATASET, target)), *guards)
        .values(state=target, updated_at=func.clock_timestamp(), **values)
        .returning(DatasetRow.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return moved is not None


def move_weights(session: Session, weights_id: str, target: str, *guards: ColumnElement[bool], **values: Any) -> bool:
    """Bring weights into state `target` with these column values; returns whether their state and `guards` allowed.

    Weights that are not converted hold no lease.
    """
    if target != "converting":
        values["lease_expires_at"] = None
    moved = session.execute(
        update(WeightsRow)
        .where(WeightsRow.id == weights_id, WeightsRow.state.in_(states.sources(states.WEIGHTS, target)), *guards)
        .values(state=target, updated_at=func.clock_timestamp(), **values)
        .returning(WeightsRow.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return moved is not None


def move_export(session: Session, export_id: str, target: str, *guards: ColumnElement[bool], **values: Any) -> bool:
    """Bring an export into state `target` with these column values; returns whether its state and `guards` allowed.

    One that does not run holds no lease.
    """
    if target != "running":
        values["lease_expires_at"] = None
    moved = session.execute(
        update(ExportRow)
        .where(ExportRow.id == export_id, ExportRow.state.in_(states.sources(states.EXPORT, target)), *guards)
        .values(state=target, updated_at=func.clock_timestamp(), **values)
        .returning(ExportRow.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return moved is not None


def move_delivery(session: Session, delivery_id: str, target: str, *guards: ColumnElement[bool], **values: Any) -> bool:
    """Bring a webhook's delivery into state `target` with these column values; returns whether its state and `guards`
    allowed. One that does not run holds no lease.
    """
    if target != "running":
        values["lease_expires_at"] = None
    moved = session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, DeliveryRow.state.in_(states.sources(states.DELIVERY, target)), *guards)
        .values(state=target, updated_at=func.clock_timestamp(), **values)
        .returning(DeliveryRow.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return moved is not None
