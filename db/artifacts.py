"""Artifacts: the files that trials report."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from paretofit.db.tables import ArtifactRow
from paretofit.search.contracts.plan import INITIAL


def get(session: Session, tenant: str, artifact_id: str) -> ArtifactRow | None:
    """An artifact of this tenant."""
    return session.scalar(select(ArtifactRow).where(ArtifactRow.id == artifact_id, ArtifactRow.tenant_id == tenant))


def initial(session: Session, search_id: str) -> ArtifactRow | None:
    """The file that a search starts from, locked against deletion until the transaction ends; None if it starts from
    scratch."""
    query = select(ArtifactRow).where(
        ArtifactRow.search_id == search_id, ArtifactRow.trial_id.is_(None), ArtifactRow.name == INITIAL
    )
    return session.scalar(query.with_for_update(read=True))


def of_trial(session: Session, trial_id: str) -> Sequence[ArtifactRow]:
    """The files of a trial, ordered by name."""
    return session.scalars(select(ArtifactRow).where(ArtifactRow.trial_id == trial_id).order_by(ArtifactRow.name)).all()


def with_suffix(session: Session, search_id: str, suffixes: Sequence[str], *, limit: int) -> Sequence[ArtifactRow]:
    """At most `limit` files of a search whose names have one of these suffixes, oldest first."""
    named = or_(*(ArtifactRow.name.endswith(suffix, autoescape=True) for suffix in suffixes))
    query = select(ArtifactRow).where(ArtifactRow.search_id == search_id, named)
    return session.scalars(query.order_by(ArtifactRow.created_at, ArtifactRow.id).limit(limit)).all()
