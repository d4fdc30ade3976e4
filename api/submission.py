"""Acceptance of searches: the dataset is ready and a network meets the constraints; both are recorded."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

from sqlalchemy.orm import Session

from paretofit.api import devices, feasibility, init_from, problems, quotas
from paretofit.api.init_from import FoundStart
from paretofit.api.schemas.problems import FieldProblem
from paretofit.core.settings import Settings
from paretofit.db import datasets, searches
from paretofit.db.blobs import Blob
from paretofit.db.tables import SearchRow
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec


@dataclass(frozen=True, slots=True)
class Resolved:
    """A specification with the profile of its dataset and the record of its start, and the blob of the start, which is
    pinned until the transaction ends."""

    spec: ResolvedSpec
    initial: Blob | None


def resolve(session: Session, tenant: str, spec: SearchSpec, start: FoundStart | None = None) -> Resolved:
    """`start` is the specification's, where it is known. Raises InvalidError for an unknown dataset or start, for
    parameters that fit neither, and for a device that no live worker offers; DatasetNotReadyError."""
    row = datasets.get(session, tenant, spec.dataset_id)
    if row is None:
        detail = f"no dataset {spec.dataset_id!r}; GET /v1/datasets lists yours"
        raise problems.InvalidError(detail, errors=[FieldProblem(pointer="/dataset_id", detail=detail)])
    if row.state != "ready":
        following = "create another dataset" if row.state == "rejected" else "wait until it is ready"
        raise problems.DatasetNotReadyError(
            f"the dataset is {row.state}: {following}", state=row.state, dataset_id=row.id
        )
    devices.require(session, spec)
    start = start or init_from.found(session, tenant, spec)
    profile = DatasetProfile.model_validate(row.profile)
    try:
        if start is None:
            return Resolved(spec.resolve(profile), None)
        method = spec.method.model_copy(update={"start": start.reference})
        return Resolved(spec.model_copy(update={"method": method}).resolve(profile, start.record), start.blob)
    except ValueError as error:
        raise feasibility.refused_parameters(spec, str(error)) from error


def accept(
    session: Session,
    tenant: str,
    spec: SearchSpec,
    settings: Settings,
    *,
    start: FoundStart | None = None,
    **provenance: str,
) -> SearchRow:
    """A new search. `start` is that of the specification, where it is known. Raises what `resolve` does,
    InfeasibleError and QuotaExceededError."""
    resolved = resolve(session, tenant, spec, start)
    survey = feasibility.survey(resolved.spec)
    quotas.admit_search(session, tenant, settings)
    return searches.insert(
        session,
        tenant,
        spec=resolved.spec.model_dump(mode="json"),
        dataset_id=spec.dataset_id,
        created={"candidates": survey.as_json(), "versions": _versions(), **provenance},
        initial=resolved.initial,
    )


def _versions() -> dict[str, str]:
    return {"paretofit": version("paretofit"), "python": platform.python_version()}
