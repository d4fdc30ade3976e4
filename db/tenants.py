"""Tenants: their quotas and usage. A quota is checked in the transaction of the operation that it limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Double, cast, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from paretofit.db import states
from paretofit.db.tables import AttemptRow, SearchRow, SpentRow, TenantRow, TrialRow

PERIOD: Final = timedelta(days=30)
"""The window over which device time is counted."""
_STORED: Final = text("""
    SELECT coalesce((SELECT sum(uploaded_bytes + coalesce(made.size, 0)) FROM datasets LEFT JOIN LATERAL (
        SELECT sum((file.value ->> 'size')::bigint) AS size FROM jsonb_each(manifest) AS file
    ) AS made ON true WHERE tenant_id = :tenant), 0)
    + coalesce((SELECT sum(size) FROM artifacts WHERE tenant_id = :tenant), 0)
    + coalesce((SELECT sum(CASE WHEN state IN ('ready', 'rejected') THEN coalesce(size, 0) ELSE uploaded_bytes END)
        FROM weights WHERE tenant_id = :tenant), 0)
""")
"""Bytes of uploads and validated datasets, files of trials and exports, and weights (without the uploaded file)."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The quotas of a tenant; None: unlimited."""

    max_searches: int | None
    max_device_seconds: float | None
    max_stored_bytes: int | None


@dataclass(frozen=True, slots=True)
class Used:
    """The usage of a tenant: unfinished searches, device seconds within `PERIOD`, bytes of its files."""

    searches: int
    device_seconds: float
    stored_bytes: int


class QuotaError(RuntimeError):
    """A tenant has reached the quota `name`."""

    def __init__(self, name: str, used: float, limit: float) -> None:
        super().__init__(f"the quota {name} is exceeded ({used:g} of {limit:g} in use)")
        self.name = name
        self.used = used
        self.limit = limit


def ensure(session: Session, tenant: str) -> None:
    """Create a tenant's row if necessary."""
    session.execute(insert(TenantRow).values(id=tenant).on_conflict_do_nothing())


def page(session: Session, *, after: str, limit: int) -> Sequence[TenantRow]:
    """At most `limit` tenants with an id above `after`, by id."""
    return session.scalars(select(TenantRow).where(TenantRow.id > after).order_by(TenantRow.id).limit(limit)).all()


def set_quota(session: Session, tenant: str, quota: Quota) -> TenantRow:
    """Set the quotas of a tenant, which is created if necessary."""
    ensure(session, tenant)
    return session.scalars(
        update(TenantRow)
        .where(TenantRow.id == tenant)
        .values(
            max_searches=quota.max_searches,
            max_device_seconds=quota.max_device_seconds,
            max_stored_bytes=quota.max_stored_bytes,
        )
        .returning(TenantRow)
        .execution_options(populate_existing=True, synchronize_session=False)
    ).one()


def quota(session: Session, tenant: str, default: Quota) -> Quota:
    """The effective quotas of a tenant: its own where set, otherwise `default`."""
    return _effective(session.get(TenantRow, tenant), default)


def used(session: Session, tenant: str) -> Used:
    """The current usage of a tenant."""
    return Used(_searches(session, tenant), _device_seconds(session, tenant), _stored_bytes(session, tenant))


def admit_search(session: Session, tenant: str, default: Quota) -> None:
    """Check the quotas in the transaction that inserts a search; such transactions of a tenant are serialized.

    Raises QuotaError.
    """
    quota = _locked(session, tenant, default)
    if quota.max_searches is not None:
        _check("max_searches", _searches(session, tenant), quota.max_searches, more=1)
    if quota.max_device_seconds is not None:
        _check("max_device_seconds", _device_seconds(session, tenant), quota.max_device_seconds)
    if quota.max_stored_bytes is not None:
        _check("max_stored_bytes", _stored_bytes(session, tenant), quota.max_stored_bytes)


def admit_bytes(session: Session, tenant: str, default: Quota, *, more: int) -> None:
    """Check the quota in the transaction that adds files of `more` bytes. Raises QuotaError."""
    quota = _locked(session, tenant, default)
    if quota.max_stored_bytes is not None:
        _check("max_stored_bytes", _stored_bytes(session, tenant), quota.max_stored_bytes, more=more)


def lock(session: Session, tenant: str) -> TenantRow:
    """Lock a tenant's row, created if necessary, until the transaction ends."""
    ensure(session, tenant)
    return session.scalars(
        select(TenantRow)
        .where(TenantRow.id == tenant)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def preserve_usage(session: Session, search_id: str) -> None:
    """Keep the device time of a search in the tenant's usage. Call it before the search is deleted."""
    usage = (
        select(AttemptRow.tenant_id, AttemptRow.computing_at, AttemptRow.ended_at)
        .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
        .where(
            TrialRow.search_id == search_id,
            AttemptRow.computing_at.is_not(None),
            AttemptRow.ended_at > func.clock_timestamp() - PERIOD,
        )
    )
    session.execute(insert(SpentRow).from_select(["tenant_id", "computing_at", "ended_at"], usage))


def purge_expired(session: Session) -> None:
    """Delete usage records that are older than `PERIOD`."""
    session.execute(delete(SpentRow).where(SpentRow.ended_at < func.clock_timestamp() - PERIOD))


def _check(name: str, used: float, limit: float, *, more: float = 0) -> None:
    # Without `more`, a request is refused only if nothing is left.
    if used + more > limit or (more == 0 and used >= limit):
        raise QuotaError(name, used, limit)


def _locked(session: Session, tenant: str, default: Quota) -> Quota:
    row = session.get(TenantRow, tenant)
    if _effective(row, default) == Quota(None, None, None):
        return Quota(None, None, None)
    return _effective(lock(session, tenant), default)


def _effective(row: TenantRow | None, default: Quota) -> Quota:
    if row is None:
        return default
    return Quota(
        default.max_searches if row.max_searches is None else row.max_searches,
        default.max_device_seconds if row.max_device_seconds is None else row.max_device_seconds,
        default.max_stored_bytes if row.max_stored_bytes is None else row.max_stored_bytes,
    )


def _searches(session: Session, tenant: str) -> int:
    unfinished = SearchRow.state.not_in(states.terminal(states.SEARCH))
    found = session.scalar(select(func.count()).where(SearchRow.tenant_id == tenant, unfinished))
    return found or 0


def _device_seconds(session: Session, tenant: str) -> float:
    now = func.clock_timestamp()
    since = now - PERIOD
    spent = 0.0
    for table in (AttemptRow, SpentRow):
        ended = func.coalesce(table.ended_at, now)
        seconds = func.extract("epoch", ended - func.greatest(table.computing_at, since))
        spent += session.scalar(
            select(func.coalesce(cast(func.sum(seconds), Double), 0.0)).where(
                table.tenant_id == tenant, table.computing_at.is_not(None), ended > since
            )
        )
    return spent


def _stored_bytes(session: Session, tenant: str) -> int:
    return int(session.scalar(_STORED, {"tenant": tenant}) or 0)
