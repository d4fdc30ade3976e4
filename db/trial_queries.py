"""Queries on trials: lists, attempts, log lines. `paretofit.db.trials` has the transitions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from paretofit.db.tables import AttemptRow, LogRow, TrialRow


def get(session: Session, tenant: str, trial_id: str) -> TrialRow | None:
    """A trial of this tenant."""
    return session.scalar(select(TrialRow).where(TrialRow.id == trial_id, TrialRow.tenant_id == tenant))


def page(session: Session, search_id: str, *, state: str | None, after: int, limit: int) -> Sequence[TrialRow]:
    """At most `limit` trials of a search with a number above `after`, by number."""
    query = select(TrialRow).where(TrialRow.search_id == search_id, TrialRow.number > after)
    if state is not None:
        query = query.where(TrialRow.state == state)
    return session.scalars(query.order_by(TrialRow.number).limit(limit)).all()


def of_search(session: Session, search_id: str) -> Sequence[TrialRow]:
    """The trials of a search, by number."""
    return session.scalars(select(TrialRow).where(TrialRow.search_id == search_id).order_by(TrialRow.number)).all()


def attempts(session: Session, trial_id: str) -> Sequence[AttemptRow]:
    """The attempts of a trial, oldest first."""
    return session.scalars(select(AttemptRow).where(AttemptRow.trial_id == trial_id).order_by(AttemptRow.epoch)).all()


def log_lines(session: Session, trial_id: str, *, after: int, limit: int) -> Sequence[LogRow]:
    """At most `limit` lines with a number above `after`, oldest first."""
    return session.scalars(
        select(LogRow).where(LogRow.trial_id == trial_id, LogRow.seq > after).order_by(LogRow.seq).limit(limit)
    ).all()


def last_lines(session: Session, trial_id: str, limit: int) -> Sequence[LogRow]:
    """The last `limit` lines, oldest first."""
    query = select(LogRow).where(LogRow.trial_id == trial_id).order_by(LogRow.seq.desc()).limit(limit)
    return session.scalars(query).all()[::-1]
