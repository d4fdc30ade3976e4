"""The rows that a path names, or the 404 that says so. Another tenant's row is not there."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.problems import NotFoundError
from db import artifacts, points, searches, trial_views
from db.points import FoundPoint
from db.tables import ArtifactRow, SearchRow, TrialRow


def found_search(session: Session, tenant: str, search_id: str) -> SearchRow:
    """Raises NotFoundError."""
    row = searches.get(session, tenant, search_id)
    if row is None:
        raise NotFoundError(f"no search {search_id!r}; GET /v1/searches lists yours")
    return row


def found_trial(session: Session, tenant: str, trial_id: str) -> TrialRow:
    """Raises NotFoundError."""
    row = trial_views.get(session, tenant, trial_id)
    if row is None:
        raise NotFoundError(f"no trial {trial_id!r}; GET /v1/searches/ID/trials lists those of a search")
    return row


def found_point(session: Session, tenant: str, point_id: str) -> FoundPoint:
    """Raises NotFoundError."""
    found = points.get(session, tenant, point_id)
    if found is None:
        raise NotFoundError(f"no point {point_id!r}; GET /v1/searches/ID/front lists those of a search")
    return found


def found_artifact(session: Session, tenant: str, artifact_id: str) -> ArtifactRow:
    """Raises NotFoundError."""
    row = artifacts.get(session, tenant, artifact_id)
    if row is None:
        raise NotFoundError(f"no artifact {artifact_id!r}; trials and points name theirs")
    return row
