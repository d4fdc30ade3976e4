"""Points: networks that searches found."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from paretofit.api import problems
from paretofit.api.access import requires
from paretofit.api.fronts import Found, Joint
from paretofit.api.lookup import found_point, found_search
from paretofit.api.schemas.points import DatasetPoint, FrontPoint, PointDetail
from paretofit.api.security import Tenant
from paretofit.api.services import Db
from paretofit.api.v1.artifacts import artifact
from paretofit.api.v1.exports import forms
from paretofit.db.points import FoundPoint

router = APIRouter(prefix="/points", tags=["points"])


def front_point(point: FoundPoint, *, feasible: bool) -> FrontPoint:
    """A point as shown in fronts."""
    return FrontPoint(**_fields(point, feasible=feasible))


def joint_point(joint: Joint, point: FoundPoint) -> DatasetPoint:
    """A point as shown in the joint front of a dataset."""
    search = joint.search(point)
    fields = _fields(point, feasible=joint.feasible(point))
    return DatasetPoint(**fields, search_name=search.name, method=search.method)


@router.get(
    "/{point_id}",
    dependencies=[requires("read")],
    operation_id="get_point",
    responses=problems.responses(problems.NotFoundError),
)
def read(point_id: str, session: Db, tenant: Tenant) -> PointDetail:
    """Get a point with the full record that its checkpoint carries."""
    point = found_point(session, tenant, point_id)
    search = found_search(session, tenant, point.row.search_id)
    fields = _fields(point, feasible=Found([], search.spec).feasible(point))
    return PointDetail(
        **fields,
        exports=forms(search.method, point.row.key),
        record=point.row.record,
        created_at=point.row.created_at,
        updated_at=point.row.updated_at,
    )


def _fields(point: FoundPoint, *, feasible: bool) -> dict[str, Any]:
    row = point.row
    return {
        "id": row.id,
        "search_id": row.search_id,
        "trial_id": row.trial_id,
        "key": row.key,
        "role": row.role,
        "config": point.config,
        "input_size": point.input_size,
        "metrics": row.metrics,
        "basis": "measured",
        "feasible": feasible,
        "artifact": None if point.artifact is None else artifact(point.artifact),
    }
