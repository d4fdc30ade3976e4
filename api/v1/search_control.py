"""Pausing, resuming, changing and cloning searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body, Response
from sqlalchemy.orm import Session

from paretofit.api import init_from, problems, submission
from paretofit.api.access import requires
from paretofit.api.changes import CloneChanges, SearchChanges
from paretofit.api.feasibility import check_limits
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.lookup import found_search
from paretofit.api.schemas.searches import SearchDetail
from paretofit.api.searches import detail
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service
from paretofit.api.v1.searches import REFUSALS, accepted
from paretofit.db import search_control, searches, states
from paretofit.db.idempotency import StoredResponse
from paretofit.db.tables import SearchRow
from paretofit.db.transitions import lock_search
from paretofit.search.contracts.spec import ResolvedSpec

router = APIRouter(prefix="/searches", tags=["searches"])
_CONTROL_RESPONSES = problems.responses(
    problems.NotFoundError, problems.SearchFinishedError, problems.KeyInFlightError, problems.KeyReusedError
)


@router.post(
    "/{search_id}/pause",
    dependencies=[requires("write")],
    operation_id="pause_search",
    status_code=202,
    response_model=SearchDetail,
    responses=_CONTROL_RESPONSES,
)
def pause(search_id: str, tenant: Tenant, once: IdempotentOnce) -> Response:
    """Pause a search. Queued trials do not start; running trials save a checkpoint and stop. Paused time does not count
    toward limits."""
    return once(_control(tenant, search_id, search_control.request_pause))


@router.post(
    "/{search_id}/resume",
    dependencies=[requires("write")],
    operation_id="resume_search",
    status_code=202,
    response_model=SearchDetail,
    responses=_CONTROL_RESPONSES,
)
def resume(search_id: str, tenant: Tenant, once: IdempotentOnce) -> Response:
    """Resume a paused search; its trials continue from their checkpoints. No effect on one that is not paused."""
    return once(_control(tenant, search_id, search_control.resume))


@router.post(
    "/{search_id}/clone",
    dependencies=[requires("write")],
    operation_id="clone_search",
    status_code=202,
    response_model=SearchDetail,
    responses=problems.responses(problems.NotFoundError, *REFUSALS),
)
def clone(
    search_id: str,
    tenant: Tenant,
    service: Service,
    once: IdempotentOnce,
    changes: Annotated[CloneChanges | None, Body()] = None,
) -> Response:
    """Submit a copy of a search, with the changes in the body."""

    def effect(session: Session) -> StoredResponse:
        row = found_search(session, tenant, search_id)
        spec = (changes or CloneChanges()).spec_of(row)
        start = init_from.of_search(session, row)
        made = submission.accept(session, tenant, spec, service.settings, start=start, cloned_from=search_id)
        return accepted(session, made)

    return once(effect)


@router.patch(
    "/{search_id}",
    dependencies=[requires("write")],
    operation_id="change_search",
    responses=problems.responses(problems.NotFoundError, problems.SearchFinishedError, problems.SearchStartedError),
)
def change(search_id: str, changes: SearchChanges, session: Db, tenant: Tenant) -> SearchDetail:
    """Change the name, labels, limits or priority of a search. They take effect immediately."""
    found_search(session, tenant, search_id)
    row = lock_search(session, search_id)
    if row is None:
        raise problems.NotFoundError(f"search {search_id!r} was deleted during the request")
    if row.state in states.terminal(states.SEARCH) and not (changes.limits is None and changes.priority is None):
        raise _over(row, "only its name and labels can be changed")
    searches.describe(session, search_id, name=changes.name or row.name, labels=changes.labels_of(row))
    if changes.limits is not None:
        limits = changes.limits_of(row)
        if row.started_at is not None and limits.max_epochs != row.limits.get("max_epochs"):
            raise problems.SearchStartedError(
                "max_epochs sets the training schedule and cannot change once the search has started: clone the "
                "search, or set another limit"
            )
        if row.started_at is None:
            check_limits(ResolvedSpec.model_validate(row.spec | {"limits": limits.model_dump(mode="json")}))
        search_control.set_limits(session, search_id, limits.model_dump(mode="json"))
    if changes.priority is not None:
        search_control.set_priority(session, search_id, changes.priority)
    return _now(session, row)


def _control(tenant: str, search_id: str, work: Callable[[Session, str], bool]) -> Callable[[Session], StoredResponse]:
    def effect(session: Session) -> StoredResponse:
        row = found_search(session, tenant, search_id)
        if not work(session, search_id):
            raise _over(row, "clone it to run it again")
        return answer(202, _now(session, row))

    return effect


def _over(row: SearchRow, following: str) -> problems.SearchFinishedError:
    state = "is being cancelled" if row.state not in states.terminal(states.SEARCH) else f"is {row.state}"
    return problems.SearchFinishedError(f"the search {state}: {following}", state=row.state)


def _now(session: Session, row: SearchRow) -> SearchDetail:
    session.flush()
    session.refresh(row)
    return detail(session, row)
