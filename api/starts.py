"""The point whose weights a search starts from: its method's `init_from`."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.pointers import pointer
from api.problems import InvalidError
from api.schemas.problems import FieldProblem
from db import points
from db.tables import ArtifactRow
from models.architecture import Architecture
from search.spec import ResolvedSpec


def found(session: Session, tenant: str, spec: ResolvedSpec) -> ArtifactRow | None:
    """Its checkpoint, which stays until the transaction ends; None: the method starts from none. Raises InvalidError for a
    point that is not the tenant's, or without weights, or whose weights the method cannot use."""
    wanted = spec.method.start
    if wanted is None:
        return None
    point = points.get(session, tenant, wanted)
    artifact = None if point is None else points.checkpoint(session, point)
    if point is None or artifact is None:
        missing = "no such point of yours" if point is None else "the point has no weights of its own"
        raise _refused(
            f"init_from: {wanted}: {missing}; GET /v1/searches/{{id}}/front?include=dominated lists a search's"
        )
    try:
        spec.method.check_start(spec.dataset, Architecture.from_json(point.row.record["architecture"]))
    except ValueError as error:
        raise _refused(str(error)) from error
    return artifact


def _refused(detail: str) -> InvalidError:
    return InvalidError(detail, errors=[FieldProblem(pointer=pointer(["method", "init_from"]), detail=detail)])
