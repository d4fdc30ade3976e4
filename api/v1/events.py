"""Events of a search, as pages or as a stream that replays and follows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from paretofit.api import paging, problems
from paretofit.api.access import requires
from paretofit.api.lookup import found_search
from paretofit.api.schemas.events import Event
from paretofit.api.schemas.pages import Page
from paretofit.api.schemas.searches import TERMINAL
from paretofit.api.security import Caller, Tenant
from paretofit.api.services import Service, Services
from paretofit.db import events
from paretofit.db.engine import transaction
from paretofit.db.tables import EventRow

router = APIRouter(tags=["events"])

_BATCH = 200
_KEEPALIVE_SECONDS = 15.0
# Interval of checks that the follower is still authorized.
_ADMITTED_SECONDS = 2.0
_STREAM = "text/event-stream"


def _is_stream(request: Request) -> bool:
    return _STREAM in request.headers.get("accept", "")


async def _place(request: Request, caller: Caller, service: Service) -> AsyncIterator[None]:
    """A stream's place among those of its key, until the answer has been sent."""
    with service.streams.place(caller) if _is_stream(request) else nullcontext():
        yield


@router.get(
    "/searches/{search_id}/events",
    operation_id="get_events",
    response_model=Page[Event],
    dependencies=[requires("read"), Depends(_place)],
    responses={
        200: {"content": {_STREAM: {"schema": {"type": "string"}}}},
        **problems.responses(problems.NotFoundError),
    },
)
async def read(
    search_id: str,
    request: Request,
    tenant: Tenant,
    service: Service,
    limit: paging.Limit = 50,
    cursor: paging.Cursor = None,
    last_event_id: Annotated[str | None, Header(description="For streams: id of the last event received.")] = None,
) -> Response:
    """List the events of a search, oldest first. `Accept: text/event-stream` returns Server-Sent Events: the stream
    replays events after `Last-Event-ID` (or `cursor`), follows new ones and ends with the search."""
    streams = _is_stream(request)
    after = paging.position(last_event_id if streams and last_event_id else cursor, start=0)
    rows, over = await run_in_threadpool(_read, service, tenant, search_id, after, _BATCH if streams else limit + 1)
    if not streams:
        page = paging.numbered(rows, limit, lambda row: row.seq, _event, follow_from=after)
        return JSONResponse(page.model_dump(mode="json"))
    return StreamingResponse(
        _follow(service, request.headers, tenant, search_id, after, rows, over=over),
        media_type=_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _follow(
    service: Services,
    sent: Headers,
    tenant: str,
    search_id: str,
    after: int,
    rows: Sequence[EventRow],
    *,
    over: bool,
) -> AsyncIterator[str]:
    """Events starting with `rows`, as they happen, until the search has finished, the key or session in the headers
    `sent` has expired or was revoked, or the service stops."""
    spoke = admitted = time.monotonic()
    with service.metrics.stream(), service.notifications.following(search_id) as news:
        yield "retry: 1000\n\n"
        while True:
            for row in rows:
                yield _message(row)
                after, spoke = row.seq, time.monotonic()
            if over or service.notifications.closing:
                return
            if not rows:
                await service.notifications.wait(news)
                if time.monotonic() - spoke > _KEEPALIVE_SECONDS:
                    yield ": still here\n\n"
                    spoke = time.monotonic()
            try:
                if time.monotonic() - admitted > _ADMITTED_SECONDS:
                    await run_in_threadpool(service.authenticate, sent)
                    admitted = time.monotonic()
                rows, over = await run_in_threadpool(_read, service, tenant, search_id, after, _BATCH)
            except (problems.NotFoundError, problems.UnauthorizedError):
                return


def _read(service: Services, tenant: str, search_id: str, after: int, limit: int) -> tuple[Sequence[EventRow], bool]:
    """The next events, and whether they are the last of the search."""
    with transaction(service.engine) as session:
        search = found_search(session, tenant, search_id)
        rows = events.after(session, search_id, after, limit)
        last = rows[-1].seq if rows else after
        return rows, search.state in TERMINAL and last >= search.event_seq


def _event(row: EventRow) -> Event:
    return Event(seq=row.seq, type=row.type, data=row.data, at=row.at)


def _message(row: EventRow) -> str:
    return f"id: {row.seq}\nevent: {row.type}\ndata: {_event(row).model_dump_json()}\n\n"
