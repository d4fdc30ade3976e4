"""Rows by the ids in a path, or 404. Rows of other tenants do not exist."""

from __future__ import annotations

from sqlalchemy.orm import Session

from paretofit.api.problems import ArtifactNotReadyError, NotFoundError
from paretofit.db import artifacts, datasets, exports, points, searches, trial_queries
from paretofit.db.exports import FoundExport
from paretofit.db.points import FoundPoint
from paretofit.db.tables import ArtifactRow, DatasetRow, SearchRow, TrialRow


def found_dataset(session: Session, tenant: str, dataset_id: str) -> DatasetRow:
    """Raises NotFoundError."""
    row = datasets.get(session, tenant, dataset_id)
    if row is None:
        raise NotFoundError(f"no dataset {dataset_id!r}; GET /v1/datasets lists yours")
    return row


def found_search(session: Session, tenant: str, search_id: str) -> SearchRow:
    """Raises NotFoundError."""
    row = searches.get(session, tenant, search_id)
    if row is None:
        raise NotFoundError(f"no search {search_id!r}; GET /v1/searches lists yours")
    return row


def found_trial(session: Session, tenant: str, trial_id: str) -> TrialRow:
    """Raises NotFoundError."""
    row = trial_queries.get(session, tenant, trial_id)
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
    """Raises NotFoundError, ArtifactNotReadyError for an export that is not ready."""
    row = artifacts.get(session, tenant, artifact_id)
    if row is None and (export := exports.get(session, tenant, artifact_id)) is not None:
        raise ArtifactNotReadyError(
            f"the export is {export.row.state}: GET /v1/exports/{artifact_id} shows its progress",
            headers={} if export.row.state == "failed" else {"Retry-After": "2"},
        )
    if row is None:
        raise NotFoundError(f"no artifact {artifact_id!r}; trials and points list theirs")
    return row


def found_export(session: Session, tenant: str, export_id: str) -> FoundExport:
    """Raises NotFoundError."""
    found = exports.get(session, tenant, export_id)
    if found is None:
        raise NotFoundError(f"no export {export_id!r}; GET /v1/points/ID/exports lists those of a point")
    return found
