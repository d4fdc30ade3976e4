"""The API reference as a page, generated from the OpenAPI document, without scripts or external resources."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from paretofit.api.headers import PAGE_POLICY
from paretofit.api.reference import STYLE, page

router = APIRouter(include_in_schema=False)
_DAY = "max-age=86400"


@router.get("/docs")
def read(request: Request) -> Response:
    """Every operation with its parameters, bodies and responses."""
    state = request.app.state
    if not hasattr(state, "reference"):
        state.reference = page(request.app.openapi())
    return HTMLResponse(state.reference, headers={"Content-Security-Policy": PAGE_POLICY})


@router.get("/docs/style.css")
def style() -> Response:
    """The stylesheet."""
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": _DAY})
