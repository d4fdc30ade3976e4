"""The weights pages: the list with a form for new ones, and weights with the result of their conversion."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query, Request, Response

from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import following, page_router
from paretofit.api.services import Db, Service
from paretofit.api.v1 import weights as api
from paretofit.search.contracts.weights import MAX_FILE_BYTES

router = page_router()
_LISTED: Final = 50
_WORKING: Final = frozenset({"uploading", "converting"})


@router.get("/weights")
def read_list(
    request: Request,
    session: Db,
    visitor: Visitor,
    service: Service,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """The weights, newest first."""
    found = api.read_list(session, visitor.tenant, service, limit=_LISTED, cursor=cursor)
    return page(
        "weights.html",
        here="weights",
        visitor=visitor,
        found=found,
        active=any(weights.state in {*_WORKING, "pending"} for weights in found.data),
        sources=[source for source in api.read_sources(service).data if source.enabled],
        max_bytes=min(service.settings.max_upload_bytes, MAX_FILE_BYTES),
        following=following(request, found.next_cursor),
    )


@router.get("/weights/{weights_id}")
def read(weights_id: str, session: Db, visitor: Visitor, service: Service) -> Response:
    """Trained weights with their state, network, license and provenance."""
    weights = api.read(weights_id, session, visitor.tenant, service)
    return page(
        "weights_detail.html",
        here="weights",
        visitor=visitor,
        weights=weights,
        active=weights.state in {*_WORKING, "pending"},
        max_bytes=min(service.settings.max_upload_bytes, MAX_FILE_BYTES),
    )
