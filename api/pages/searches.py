"""The search pages: the list, and a search with its live parts."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast, get_args

from fastapi import Query, Request, Response
from sqlalchemy.orm import Session

from paretofit.api.fronts import Found
from paretofit.api.lookup import found_search
from paretofit.api.pages import forms, fronts, pictures
from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import following, page_router
from paretofit.api.schemas.searches import TERMINAL, SearchDetail, SearchState
from paretofit.api.searches import detail, majority
from paretofit.api.services import Db
from paretofit.api.v1 import searches as api
from paretofit.db import datasets, events, metrics, trial_queries
from paretofit.db.tables import SearchRow
from paretofit.search.contracts.spec import Limits
from paretofit.search.registry import methods

router = page_router()
_LISTED: Final = 50
_TRIALS: Final = 500
_EVENTS: Final = 100
_STATES: Final[tuple[str, ...]] = get_args(SearchState)
_OPTIONAL = Annotated[str, Query(max_length=401)]


@router.get("/searches")
def read_list(
    request: Request,
    session: Db,
    visitor: Visitor,
    state: _OPTIONAL = "",
    method: _OPTIONAL = "",
    label: _OPTIONAL = "",
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """The searches, newest first. Empty filters are ignored; an unknown state matches no search."""
    found = api.read_list(
        session,
        visitor.tenant,
        state=cast("SearchState", state) if state else None,
        method=method or None,
        label=label or None,
        limit=_LISTED,
        cursor=cursor,
    )
    return page(
        "searches.html",
        here="searches",
        visitor=visitor,
        found=found,
        datasets=datasets.names(session, [search.dataset_id for search in found.data]),
        filters={"state": state, "method": method, "label": label},
        filtered=bool(state or method or label),
        states=_STATES,
        methods=sorted(methods()),
        active=any(search.state not in TERMINAL for search in found.data),
        following=following(request, found.next_cursor),
    )


@router.get("/searches/{search_id}")
def read(search_id: str, session: Db, visitor: Visitor, x: Annotated[str, Query(max_length=200)] = "") -> Response:
    """A search with its progress, front, trials and events."""
    row = found_search(session, visitor.tenant, search_id)
    found = fronts.found_by(session, row)
    return page(
        "search.html",
        here="searches",
        visitor=visitor,
        limits=_changeable(row),
        **_front(session, row, found, x),
        **_progress(session, row, found),
    )


@router.get("/searches/{search_id}/parts/progress")
def read_progress(search_id: str, session: Db, visitor: Visitor) -> Response:
    """The live parts of the page, except for the front."""
    row = found_search(session, visitor.tenant, search_id)
    return page("parts/progress.html", **_progress(session, row, fronts.found_by(session, row)))


@router.get("/searches/{search_id}/parts/front")
def read_front(
    search_id: str, session: Db, visitor: Visitor, x: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """The current front, over any cost."""
    row = found_search(session, visitor.tenant, search_id)
    return page(
        "parts/front.html",
        **_front(session, row, fronts.found_by(session, row), x),
        sequence=row.front_seq,
    )


def _first_axis(row: SearchRow) -> str:
    """The first cost among the objectives of the search."""
    costs = [goal for goal in row.spec["objectives"] if goal["metric"] != "selection_top1"]
    return f"{costs[0]['metric']}:{costs[0]['device']}" if costs[0].get("device") else str(costs[0]["metric"])


def _changeable(row: SearchRow) -> list[forms.Field]:
    """The limits that can still change: `max_epochs` sets the training schedule, so it is fixed after the start."""
    limits = forms.fields(Limits.model_json_schema(), row.limits, "/limits")
    return [field for field in limits if row.started_at is None or field.pointer != "/limits/max_epochs"]


def _front(session: Session, row: SearchRow, found: Found, x: str) -> dict[str, Any]:
    drawn = fronts.draw(found, x or _first_axis(row), majority(session, row.dataset_id))
    empty = "No point met the constraints." if row.state in TERMINAL else "No points yet."
    return fronts.context(drawn, part=f"/searches/{row.id}/parts/front", heading="Front", empty=empty)


def _progress(session: Session, row: SearchRow, found: Found) -> dict[str, Any]:
    search: SearchDetail = detail(session, row, found)
    newest = max(0, row.event_seq - _EVENTS)
    trials = trial_queries.page(session, row.id, state=None, after=-1, limit=_TRIALS)
    measured = metrics.names(session, [trial.id for trial in trials])
    return {
        "search": search,
        "search_id": row.id,
        "sequence": row.front_seq,
        "over": row.state in TERMINAL,
        "dataset": datasets.names(session, [row.dataset_id]).get(row.dataset_id, row.dataset_id),
        "trials": trials,
        "trial_list": [[trial.id, trial.number, trial.state, measured.get(trial.id, [])] for trial in trials],
        "trials_shown": _TRIALS,
        "events": list(reversed(events.after(session, row.id, newest, _EVENTS))),
        "event_seq": row.event_seq,
        "event_types": list(events.TYPES),
        "pictures": pictures.of_search(session, row, found),
    }
