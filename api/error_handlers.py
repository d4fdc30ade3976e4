"""Exception handlers: each exception as a problem document."""

from __future__ import annotations

import json
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from paretofit.api import access
from paretofit.api.headers import HEADERS
from paretofit.api.limits import MAX_BYTES
from paretofit.api.pointers import field_problems, paths_to, pointer
from paretofit.api.problems import (
    ArtifactDamagedError,
    BadRequestError,
    InternalError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    ProblemError,
    TooLargeError,
    database_away,
)
from paretofit.api.schemas.problems import FieldProblem
from paretofit.db.blobs import BlobCorruptError, BlobMissingError

_NUL: Final = "\0"
_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.api.problems")


def install(app: FastAPI) -> None:
    """Make `app` return every error as a problem document."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(DataError, _not_storable)
    app.add_exception_handler(OperationalError, _unavailable)
    app.add_exception_handler(PoolTimeoutError, _unavailable)
    app.add_exception_handler(BlobMissingError, _damaged)
    app.add_exception_handler(BlobCorruptError, _damaged)
    app.add_exception_handler(Exception, _failed)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response(request.scope)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = field_problems(error.errors(), error.body)
    places = ", ".join(dict.fromkeys(found.pointer or "the body" for found in errors))
    problem = access.forbidden(request) or InvalidError(
        f"invalid {places}: correct the request and send it again", errors=errors
    )
    return problem.response(request.scope)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, headers = request.url.path, dict(error.headers or {})
    match error.status_code:
        case 404:
            problem: ProblemError = NotFoundError(f"no route {path}: /openapi.json lists every route")
        case 405:
            allowed = ", ".join(_allowed(request))
            problem = MethodNotAllowedError(
                f"{path} does not support this method: use {allowed}", headers={"Allow": allowed}
            )
        case 413:
            problem = TooLargeError(
                f"the body exceeds the limit of {MAX_BYTES} bytes: send a smaller one", headers=headers
            )
        case _:
            problem = access.forbidden(request) or BadRequestError(str(error.detail), headers=headers)
    return problem.response(request.scope)


def _allowed(request: Request) -> list[str]:
    """The methods of a path. (The framework's own `Allow` covers only the first route that matches.)"""
    routes = request.app.router.routes
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches(dict(request.scope) | {"method": method})[0] is Match.FULL for route in routes)
    ]


async def _not_storable(request: Request, error: Exception) -> Response:
    assert isinstance(error, DataError)
    places = [f"?{name}" for name, value in request.query_params.multi_items() if _NUL in value]
    # JSON escapes it; other bodies cannot contain it.
    if "json" in request.headers.get("content-type", "") and b"\\u0000" in (body := await request.body()):
        places += map(pointer, paths_to(_NUL, json.loads(body)))
    _log.warning("value_not_storable", error=type(error.orig).__name__, places=places)
    errors = [FieldProblem(pointer=place, detail="the text contains a NUL character: remove it") for place in places]
    what = ", ".join(places) or "a value (out of range)"
    return InvalidError(f"invalid {what}: correct the request and send it again", errors=errors).response(request.scope)


async def _unavailable(request: Request, _: Exception) -> Response:
    return database_away().response(request.scope)


async def _damaged(request: Request, error: Exception) -> Response:
    return ArtifactDamagedError(str(error)).response(request.scope)


async def _failed(request: Request, _: Exception) -> Response:
    # The server logs the exception and then closes the connection.
    problem = InternalError(
        "the service failed to process the request: its log has the error under this request id",
        # Sent outside the middleware that adds them to all other responses.
        headers={**HEADERS, "Connection": "close"},
    )
    return problem.response(request.scope)
