"""Artifacts: the files that trials made."""

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
    """The file that a search starts from, which nobody deletes until the transaction ends; None: it has none."""
    query = select(ArtifactRow).where(
        ArtifactRow.search_id == search_id, ArtifactRow.trial_id.is_(None), ArtifactRow.name == INITIAL
    )
    return session.scalar(query.with_for_update(read=True))


def of_trial(session: Session, trial_id: str) -> Sequence[ArtifactRow]:
    """The files of a trial, in the order of their names."""
    return session.scalars(select(ArtifactRow).where(ArtifactRow.trial_id == trial_id).order_by(ArtifactRow.name)).all()


def with_suffix(session: Session, search_id: str, suffixes: Sequence[str], *, limit: int) -> Sequence[ArtifactRow]:
    """The files of a search whose names end in one of these, in the order of their creation, at most `limit`."""
    named = or_(*(ArtifactRow.name.endswith(suffix, autoescape=True) for suffix in suffixes))
    query = select(ArtifactRow).where(ArtifactRow.search_id == search_id, named)
    return session.scalars(query.order_by(ArtifactRow.created_at, ArtifactRow.id).limit(limit)).all()
