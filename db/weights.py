"""Trained weights: rows, uploads, lists, and the file that a search starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from paretofit.db import outbox
from paretofit.db.ids import new_id
from paretofit.db.keyset import Keyset, newest_first
from paretofit.db.tables import WeightsRow
from paretofit.db.transitions import move_weights


def insert(session: Session, tenant: str, *, name: str, source: dict[str, Any], options: dict[str, Any]) -> WeightsRow:
    """New weights in state `pending`. Those of a named source are sent to conversion, which fetches them."""
    row = WeightsRow(id=new_id("wts"), tenant_id=tenant, name=name, source=source, options=options)
    session.add(row)
    session.flush()
    session.refresh(row)
    if source["kind"] != "upload":
        outbox.enqueue(session, outbox.CONVERT, row.id)
    return row


def get(session: Session, tenant: str, weights_id: str) -> WeightsRow | None:
    """Weights of this tenant."""
    return session.scalar(select(WeightsRow).where(WeightsRow.id == weights_id, WeightsRow.tenant_id == tenant))


def start(session: Session, tenant: str, reference: str) -> WeightsRow | None:
    """The weights of this tenant with this id or name, which nobody deletes until the transaction ends; of several with
    one name the newest that are ready, or the newest if none is."""
    named = or_(WeightsRow.id == reference, WeightsRow.name == reference)
    query = (
        select(WeightsRow)
        .where(WeightsRow.tenant_id == tenant, named)
        .order_by(
            (WeightsRow.id == reference).desc(),
            (WeightsRow.state == "ready").desc(),
            WeightsRow.created_at.desc(),
            WeightsRow.id.desc(),
        )
        .limit(1)
    )
    return session.scalar(query.with_for_update(read=True).execution_options(populate_existing=True))


def page(session: Session, tenant: str, *, state: str | None, after: Keyset | None, limit: int) -> Sequence[WeightsRow]:
    """At most `limit` weights, newest first."""
    query = select(WeightsRow).where(WeightsRow.tenant_id == tenant)
    if state is not None:
        query = query.where(WeightsRow.state == state)
    return session.scalars(newest_first(query, WeightsRow.created_at, WeightsRow.id, after).limit(limit)).all()


def start_upload(session: Session, tenant: str, weights_id: str) -> bool:
    """Enter `uploading`, or stay in it. False: the state of the weights does not allow it."""
    row = get(session, tenant, weights_id)
    return row is not None and (
        row.state == "uploading" or move_weights(session, weights_id, "uploading", WeightsRow.tenant_id == tenant)
    )


def keep_upload(session: Session, tenant: str, weights_id: str, uploaded_bytes: int) -> None:
    """Record how much of a file has arrived; if none of it, the weights are `pending` again."""
    mine = (WeightsRow.tenant_id == tenant, WeightsRow.state == "uploading")
    if uploaded_bytes == 0:
        move_weights(session, weights_id, "pending", *mine, uploaded_bytes=0)
        return
    session.execute(
        update(WeightsRow)
        .where(WeightsRow.id == weights_id, *mine)
        .values(uploaded_bytes=uploaded_bytes, updated_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def abandon_upload(session: Session, weights_id: str) -> None:
    """An upload was given up and what has arrived of it is removed: the weights, if they still exist, are `pending`
    again."""
    move_weights(session, weights_id, "pending", WeightsRow.state == "uploading", uploaded_bytes=0)


def finish_upload(session: Session, tenant: str, weights_id: str, *, sha256: str, size: int) -> bool:
    """Hand a complete file (a blob) to conversion. False: the weights were deleted, or are past their upload."""
    moved = move_weights(
        session,
        weights_id,
        "converting",
        WeightsRow.tenant_id == tenant,
        WeightsRow.state == "uploading",
        uploaded_bytes=size,
        source=WeightsRow.source.op("||")({"sha256": sha256, "size": size}),
    )
    if moved:
        outbox.enqueue(session, outbox.CONVERT, weights_id)
    return moved


def delete(session: Session, tenant: str, weights_id: str) -> bool:
    """Remove weights in any state. False: there are none with this id.

    Searches that start from them keep the file as an artifact of their own; otherwise it goes when orphaned blobs are
    collected. A conversion that is under way finds its lease gone.
    """
    gone = session.execute(
        sql_delete(WeightsRow)
        .where(WeightsRow.id == weights_id, WeightsRow.tenant_id == tenant)
        .returning(WeightsRow.id)
        .execution_options(synchronize_session=False)
    )
    return gone.one_or_none() is not None
