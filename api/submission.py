"""How a search is accepted: its dataset is ready, some network meets its constraints, and both are recorded with it."""

from __future__ import annotations

import platform
from importlib.metadata import version

from sqlalchemy.orm import Session

from api import devices, feasibility, problems, quotas, starts
from api.schemas.problems import FieldProblem
from db import datasets, searches
from db.tables import SearchRow
from search.methods.method import DatasetProfile
from search.spec import ResolvedSpec, SearchSpec
from settings import Settings


def resolve(session: Session, tenant: str, spec: SearchSpec) -> ResolvedSpec:
    """Raises InvalidError for an unknown dataset, DatasetNotReadyError; also
    InvalidError for a device that no live worker offers."""
    row = datasets.get(session, tenant, spec.dataset_id)
    if row is None:
        detail = f"no dataset {spec.dataset_id!r}; GET /v1/datasets lists yours"
        raise problems.InvalidError(detail, errors=[FieldProblem(pointer="/dataset_id", detail=detail)])
    if row.state != "ready":
        following = "create another" if row.state == "rejected" else "wait until it is ready"
        raise problems.DatasetNotReadyError(f"it is {row.state}: {following}", state=row.state, dataset_id=row.id)
    devices.require(session, spec)
    return spec.resolve(DatasetProfile.model_validate(row.profile))


def accept(session: Session, tenant: str, spec: SearchSpec, settings: Settings, **provenance: str) -> SearchRow:
    """A new search. Raises what `resolve` does, InfeasibleError and QuotaExceededError."""
    resolved = resolve(session, tenant, spec)
    survey = feasibility.survey(resolved)
    initial = starts.found(session, tenant, resolved)
    quotas.admit_search(session, tenant, settings)
    return searches.insert(
        session,
        tenant,
        spec=resolved.model_dump(mode="json"),
        dataset_id=spec.dataset_id,
        created={"candidates": survey.as_json(), "versions": _versions(), **provenance},
        initial=initial,
    )


def _versions() -> dict[str, str]:
    return {"paretofit": version("paretofit"), "python": platform.python_version()}
