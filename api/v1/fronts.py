"""The front of a search, and the point to deploy."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from paretofit.api import fronts, problems, ranges
from paretofit.api.access import requires
from paretofit.api.fronts import Box, Found, KeyedBound
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.lookup import found_search
from paretofit.api.pointers import pointer
from paretofit.api.schemas.points import Accuracy, Cost, Front, FrontPoint, Selection
from paretofit.api.schemas.problems import FieldProblem
from paretofit.api.searches import majority, majority_fields
from paretofit.api.security import Tenant
from paretofit.api.services import Db
from paretofit.api.v1.points import front_point
from paretofit.db import points, searches, states
from paretofit.db.idempotency import StoredResponse
from paretofit.db.points import FoundPoint
from paretofit.db.tables import SearchRow

router = APIRouter(prefix="/searches/{search_id}/front", tags=["fronts"])


@router.get(
    "",
    dependencies=[requires("read")],
    operation_id="get_front",
    response_model=Front,
    responses={304: {"description": "Not modified."}, **problems.responses(problems.NotFoundError)},
)
def read(
    search_id: str,
    request: Request,
    session: Db,
    tenant: Tenant,
    x: Annotated[Cost, Query(description="Cost to minimize.")] = "macs",
    device: Annotated[
        str | None,
        Query(
            max_length=100, description="For `x=latency_ms`. Unset: the device of the search, if it has exactly one."
        ),
    ] = None,
    y: Annotated[Accuracy, Query(description="Accuracy to maximize.")] = "selection_top1",
    include: Annotated[Literal["dominated"] | None, Query(description="`dominated` adds the other candidates.")] = None,
) -> Response:
    """Get the Pareto front of the feasible points over `x` and `y`, also while the search runs."""
    row = found_search(session, tenant, search_id)
    # The sequence was read before the points: a front that grows meanwhile gets an older tag, never a newer one.
    etag = f'"{row.front_seq}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if ranges.not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    found = Found(points.of_search(session, search_id), row.spec)
    try:
        key = found.key(x, device)
    except ValueError as error:
        raise problems.InvalidError(str(error), errors=[FieldProblem(pointer="?device", detail=str(error))]) from error
    front = found.front([key])
    box = Box.of(row.spec, searches.creation(session, search_id))
    shown = {point.row.id for point in front}
    dominated = [point for point in found.candidates if point.row.id not in shown] if include else None
    document = Front(
        search_id=search_id,
        sequence=row.front_seq,
        warnings=row.warnings,
        **majority_fields(majority(session, row)),
        x=x,
        device=key.partition(":")[2] or None,
        y=y,
        points=[_point(found, point) for point in front],
        baselines=[_point(found, point) for point in found.baselines],
        dominated=None if dominated is None else [_point(found, point) for point in dominated],
        best_under={cost: fronts.table(found.measured(), cost) for cost in found.costs},
        hypervolume=None if box is None else box.hypervolume(found.front(["macs"])),
        reference=None if box is None else box.reference,
        ideal=None if box is None else box.ideal,
    )
    return JSONResponse(document.model_dump(mode="json"), headers=headers)


@router.post(
    "/select",
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
