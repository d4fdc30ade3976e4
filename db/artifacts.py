"""Artifacts: the files that trials made."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.tables import ArtifactRow


def get(session: Session, tenant: str, artifact_id: str) -> ArtifactRow | None:
    """An artifact of this tenant."""
    return session.scalar(select(ArtifactRow).where(ArtifactRow.id == artifact_id, ArtifactRow.tenant_id == tenant))


def of_trial(session: Session, trial_id: str) -> Sequence[ArtifactRow]:
    """The files of a trial, in the order of their names."""
    return session.scalars(select(ArtifactRow).where(ArtifactRow.trial_id == trial_id).order_by(ArtifactRow.name)).all()
