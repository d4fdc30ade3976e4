"""The front of a search and the point to deploy; the joint front of all searches of a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from paretofit.api import fronts, problems, ranges
from paretofit.api.access import requires
from paretofit.api.fronts import Box, Candidates, Found, Joint, KeyedBound
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.lookup import found_dataset, found_search
from paretofit.api.pointers import pointer
from paretofit.api.schemas.points import Accuracy, Cost, DatasetFront, Front, FrontPoint, Selection
from paretofit.api.schemas.problems import FieldProblem
from paretofit.api.searches import majority, majority_fields
from paretofit.api.security import Tenant
from paretofit.api.services import Db
from paretofit.api.v1.points import front_point, joint_point
from paretofit.db import points, searches, states
from paretofit.db.idempotency import StoredResponse
from paretofit.db.points import FoundPoint
from paretofit.db.searches import DatasetSearch
from paretofit.db.tables import SearchRow

router = APIRouter(tags=["fronts"])
_PATH = "/searches/{search_id}/front"
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not modified."}}

CostAxis = Annotated[Cost, Query(description="Cost to minimize.")]
Device = Annotated[
    str | None,
    Query(max_length=100, description="For `x=latency_ms`. Unset: the only device, if there is exactly one."),
]
AccuracyAxis = Annotated[Accuracy, Query(description="Accuracy to maximize.")]
Include = Annotated[Literal["dominated"] | None, Query(description="`dominated` adds the other candidates.")]


@router.get(
    _PATH,
    dependencies=[requires("read")],
    operation_id="get_front",
    response_model=Front,
    responses={**_NOT_MODIFIED, **problems.responses(problems.NotFoundError)},
)
def read(
    search_id: str,
    request: Request,
    session: Db,
    tenant: Tenant,
    x: CostAxis = "macs",
    device: Device = None,
    y: AccuracyAxis = "selection_top1",
    include: Include = None,
) -> Response:
    """Get the Pareto front of the feasible points over `x` and `y`, also while the search runs."""
    row = found_search(session, tenant, search_id)
    # The sequence was read before the points: a front that grows meanwhile gets an older tag, never a newer one.
    headers = _headers(str(row.front_seq))
    if ranges.not_modified(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    found = Found(points.of_search(session, search_id), row.spec)
    key = _axis(found, x, device)
    front = found.front([key])
    box = Box.of(row.spec, searches.creation(session, search_id))
    document = Front(
        search_id=search_id,
        sequence=row.front_seq,
        warnings=row.warnings,
        **majority_fields(majority(session, row.dataset_id)),
        x=x,
        device=key.partition(":")[2] or None,
        y=y,
        points=[_point(found, point) for point in front],
        baselines=[_point(found, point) for point in found.baselines],
        dominated=[_point(found, point) for point in found.others(front)] if include else None,
        best_under={cost: fronts.table(found.measured(), cost) for cost in found.costs},
        hypervolume=None if box is None else box.hypervolume(found.front(["macs"])),
        reference=None if box is None else box.reference,
        ideal=None if box is None else box.ideal,
    )
    return JSONResponse(document.model_dump(mode="json"), headers=headers)


@router.get(
    "/datasets/{dataset_id}/front",
    dependencies=[requires("read")],
    operation_id="get_dataset_front",
    response_model=DatasetFront,
    responses={**_NOT_MODIFIED, **problems.responses(problems.NotFoundError)},
)
def read_joint(
    dataset_id: str,
    request: Request,
    session: Db,
    tenant: Tenant,
    x: CostAxis = "macs",
    device: Device = None,
    y: AccuracyAxis = "selection_top1",
    include: Include = None,
) -> Response:
    """Get the best known networks for a dataset: the Pareto front over `x` and `y` of all candidates with a checkpoint
    that its searches found. Searches that still run contribute what they have. Constraints of the searches do not
    apply."""
    found_dataset(session, tenant, dataset_id)
    # As above, the tag is never newer than the points.
    joined = searches.of_dataset(session, tenant, dataset_id)
    headers = _headers(_digest(joined))
    if ranges.not_modified(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    joint = Joint(points.with_checkpoints(session, [search.id for search in joined]), joined)
    key = _axis(joint, x, device)
    front = joint.front([key])
    others = joint.others(front) if include else []
    known = points.of_ids(session, [point.row.id for point in (*front, *others)])
    document = DatasetFront(
        dataset_id=dataset_id,
        **majority_fields(majority(session, dataset_id)),
        x=x,
        device=key.partition(":")[2] or None,
        y=y,
        points=[joint_point(joint, known[point.row.id]) for point in front if point.row.id in known],
        dominated=[joint_point(joint, known[point.row.id]) for point in others if point.row.id in known]
        if include
        else None,
    )
    return JSONResponse(document.model_dump(mode="json"), headers=headers)


@router.post(
    f"{_PATH}/select",
    dependencies=[requires("read")],
    operation_id="select_point",
    response_model=FrontPoint,
    responses=problems.responses(
        problems.NotFoundError, problems.NoSuchPointError, problems.KeyInFlightError, problems.KeyReusedError
    ),
)
def select(search_id: str, selection: Selection, tenant: Tenant, once: IdempotentOnce) -> Response:
    """Select the most accurate point that meets these constraints and those of the search. A point that is dominated
    over the objectives of the search may have no checkpoint: an export creates one."""

    def effect(session: Session) -> StoredResponse:
        row = found_search(session, tenant, search_id)
        found = Found(points.of_search(session, search_id), row.spec)
        measured, bounds = found.measured(), _keyed(found, selection)
        chosen = fronts.best(measured, bounds)
        if chosen is None:
            raise _none_fits(measured, selection, bounds) if measured else _none_found(row, found)
        return answer(200, _point(found, chosen))

    return once(effect)


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}


def _digest(joined: Sequence[DatasetSearch]) -> str:
    """Changes whenever a search of a dataset is added, renamed or deleted, and whenever its front grows."""
    state = [[search.id, search.name, search.front_seq] for search in joined]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]


def _axis(found: Candidates[Any], x: Cost, device: str | None) -> str:
    """The key of a cost in points. Raises InvalidError for an unknown or missing device."""
    try:
        return found.key(x, device)
    except ValueError as error:
        raise problems.InvalidError(str(error), errors=[FieldProblem(pointer="?device", detail=str(error))]) from error


def _point(found: Found, point: FoundPoint) -> FrontPoint:
    return front_point(point, feasible=found.feasible(point))


def _keyed(found: Found, selection: Selection) -> list[KeyedBound]:
    bounds = []
    for index, bound in enumerate(selection.constraints):
        try:
            bounds.append(KeyedBound(found.key(bound.metric, bound.device), bound.op, bound.value))
        except ValueError as error:
            place = pointer(["constraints", index, "device"])
            raise problems.InvalidError(str(error), errors=[FieldProblem(pointer=place, detail=str(error))]) from error
    return bounds


def _none_found(row: SearchRow, found: Found) -> problems.NoSuchPointError:
    if row.state not in states.terminal(states.SEARCH):
        return problems.NoSuchPointError("the front is still empty: wait until the search reports points", nearest=[])
    unmet = found.unmet()
    unmet_texts = [
        f"{bound.metric} {bound.op} {bound.value:g} is not met by any network; the nearest has {bound.nearest:g}"
        for bound in unmet
    ]
    hints = [{"metric": bound.metric, "value": bound.nearest, "point_id": bound.point_id} for bound in unmet]
    reasons = "; ".join(unmet_texts) or "it ended before it had trained a network"
    return problems.NoSuchPointError(f"the search is {row.state} and its front is empty: {reasons}", nearest=hints)


def _none_fits(points: list[FoundPoint], selection: Selection, bounds: list[KeyedBound]) -> problems.NoSuchPointError:
    errors, hints = [], []
    for index, value, point in fronts.nearest(points, bounds):
        bound = selection.constraints[index]
        place = pointer(["constraints", index])
        detail = f"{bound.metric} {bound.op} {bound.value:g} is not met by any point; the nearest has {value:g}"
        errors.append(FieldProblem(pointer=place, detail=detail))
        hints.append({"pointer": place, "metric": bound.metric, "value": value, "point_id": point.row.id})
    reasons = "; ".join(error.detail for error in errors) or "no point has all the constrained metrics"
    return problems.NoSuchPointError(f"{reasons}: relax the bound", errors=errors, nearest=hints)
