"""Searches: submission, listing, cancellation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from paretofit.api import feasibility, latencies, paging, problems, submission
from paretofit.api.access import requires
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.lookup import found_search
from paretofit.api.schemas.pages import Page
from paretofit.api.schemas.searches import CostRange, Estimate, Search, SearchDetail, SearchState
from paretofit.api.searches import detail, listed
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service
from paretofit.db import cancellation, searches
from paretofit.db.idempotency import StoredResponse
from paretofit.db.tables import SearchRow
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.spec import SearchSpec

router = APIRouter(prefix="/searches", tags=["searches"])
_PAST = 20
REFUSALS = (
    problems.DatasetNotReadyError,
    problems.InfeasibleError,
    problems.QuotaExceededError,
    problems.KeyInFlightError,
    problems.KeyReusedError,
)
"""Problems of a search that is not accepted."""


@router.post(
    "",
    dependencies=[requires("write")],
    operation_id="create_search",
    status_code=202,
    response_model=SearchDetail,
    responses=problems.responses(*REFUSALS),
)
def create(spec: SearchSpec, tenant: Tenant, service: Service, once: IdempotentOnce) -> Response:
    """Submit a search. It is accepted if a network can meet its constraints, and starts immediately."""

    def effect(session: Session) -> StoredResponse:
        return accepted(session, submission.accept(session, tenant, spec, service.settings))

    return once(effect)


@router.post(
    "/estimate",
    dependencies=[requires("read")],
    operation_id="estimate_search",
    response_model=Estimate,
    responses=problems.responses(*REFUSALS),
)
def estimate(spec: SearchSpec, tenant: Tenant, once: IdempotentOnce) -> Response:
    """Estimate the size and duration of a search. No search is stored."""

    def effect(session: Session) -> StoredResponse:
        resolved = submission.resolve(session, tenant, spec).spec
        survey = feasibility.survey(resolved)
        past = searches.succeeded(session, tenant, spec.method.kind, limit=_PAST)
        expected = feasibility.expected_seconds(resolved, survey.macs[1], past)
        document = Estimate(
            configurations=len(survey.candidates),
            feasible=len(survey.feasible),
            cost=_ranges(survey.feasible),
            expected_seconds=expected,
            based_on=0 if expected is None else len(past),
            latency=latencies.known(session, tenant, resolved, survey.feasible),
        )
        return answer(200, document)

    return once(effect)


@router.get("", dependencies=[requires("read")], operation_id="list_searches", responses=problems.responses())
def read_list(
    session: Db,
    tenant: Tenant,
    state: Annotated[SearchState | None, Query()] = None,
    method: Annotated[str | None, Query(max_length=200, description="Method, by its kind.")] = None,
    label: Annotated[str | None, Query(max_length=401, description="`name`, or `name:value`.")] = None,
    limit: paging.Limit = 50,
    cursor: paging.Cursor = None,
) -> Page[Search]:
    """List searches, newest first."""
    rows = searches.page(
        session,
        tenant,
        state=state,
        method=method,
        label=label,
        after=paging.keyset(cursor),
        limit=limit + 1,
    )
    tallies = searches.tallies(session, [row.id for row in rows])
    return paging.newest_first(rows, limit, lambda row: listed(row, tallies[row.id]))


@router.get(
    "/{search_id}",
    dependencies=[requires("read")],
    operation_id="get_search",
    responses=problems.responses(problems.NotFoundError),
)
def read(search_id: str, session: Db, tenant: Tenant) -> SearchDetail:
    """Get a search with its progress, usage and a summary of its front."""
    return detail(session, found_search(session, tenant, search_id))


@router.post(
    "/{search_id}/cancel",
    dependencies=[requires("write")],
    operation_id="cancel_search",
    status_code=202,
    response_model=SearchDetail,
    responses=problems.responses(
        problems.NotFoundError, problems.SearchFinishedError, problems.KeyInFlightError, problems.KeyReusedError
    ),
)
def cancel(search_id: str, tenant: Tenant, once: IdempotentOnce) -> Response:
    """Cancel a search. Queued trials end immediately, running trials within seconds. Results are kept."""

    def effect(session: Session) -> StoredResponse:
        row = found_search(session, tenant, search_id)
        if not cancellation.request_cancel(session, search_id) and row.state != "cancelled":
            raise problems.SearchFinishedError(f"the search {row.state} before it could be cancelled", state=row.state)
        session.flush()
        session.refresh(row)
        return answer(202, detail(session, row))

    return once(effect)


@router.delete(
    "/{search_id}",
    dependencies=[requires("write")],
    operation_id="delete_search",
    status_code=204,
    responses=problems.responses(problems.NotFoundError, problems.SearchNotFinishedError),
)
def delete(search_id: str, session: Db, tenant: Tenant) -> None:
    """Delete a finished search with its trials, points and files."""
    found_search(session, tenant, search_id)
    if not searches.delete(session, tenant, search_id):
        raise problems.SearchNotFinishedError(
            f"the search is still active: cancel it first with POST /v1/searches/{search_id}/cancel"
        )


def accepted(session: Session, row: SearchRow) -> StoredResponse:
    """The response to a submission."""
    return answer(202, detail(session, row), {"Location": f"/v1/searches/{row.id}", "Retry-After": "1"})


def _ranges(candidates: Sequence[Candidate]) -> dict[str, CostRange]:
    costs = {name: [int(candidate.cost[name]) for candidate in candidates] for name in candidates[0].cost}
    return {name: CostRange(min=min(values), max=max(values)) for name, values in costs.items()}
