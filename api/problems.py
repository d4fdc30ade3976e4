"""Every error of the API: one class each, which is both the document that is sent (RFC 9457) and its OpenAPI schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from paretofit.api.headers import HEADERS
from paretofit.api.limits import MAX_BYTES
from paretofit.api.pointers import field_problems, paths_to, pointer
from paretofit.api.schemas.problems import FieldProblem, Problem
from paretofit.db.blobs import BlobCorruptError, BlobMissingError

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-Id"
_TYPE = "urn:paretofit:problem:"
_NUL: Final = "\0"
_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.api.problems")


class ProblemError(Exception):
    """A request that is not served as asked. `extensions` are fields that this kind of problem adds."""

    status: int
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extensions = extensions

    def response(self, scope: Scope) -> Response:
        """The document, with the id of the request that it answers."""
        document = Problem(
            type=_TYPE + self.code,
            title=self.title,
            status=self.status,
            code=self.code,
            detail=self.detail,
            errors=self.errors,
            request_id=scope.get("state", {}).get("request_id"),
            **self.extensions,
        )
        headers = self.headers | ({REQUEST_ID: document.request_id} if document.request_id else {})
        return JSONResponse(document.model_dump(mode="json"), self.status, headers, MEDIA_TYPE)


class BadRequestError(ProblemError):
    status, code, title = 400, "bad_request", "The request is not well-formed"


class UnauthorizedError(ProblemError):
    status, code, title = 401, "unauthorized", "A valid API key is needed"


class ForbiddenError(ProblemError):
    status, code, title = 403, "forbidden", "The API key does not allow this"


class CrossOriginError(ProblemError):
    status, code, title = 403, "cross_origin", "The request comes from a page of another origin"


class NotFoundError(ProblemError):
    status, code, title = 404, "not_found", "There is no such resource"


class MethodNotAllowedError(ProblemError):
    status, code, title = 405, "method_not_allowed", "The resource does not have this method"


class DatasetNotReadyError(ProblemError):
    status, code, title = 409, "dataset_not_ready", "The dataset is not ready"


class DatasetInUseError(ProblemError):
    status, code, title = 409, "dataset_in_use", "The dataset is in use"


class NotUploadableError(ProblemError):
    status, code, title = 409, "not_uploadable", "The resource takes no upload now"


class WeightsNotReadyError(ProblemError):
    status, code, title = 409, "weights_not_ready", "The weights are not ready"


class UploadInProgressError(ProblemError):
    status, code, title = 409, "upload_in_progress", "Another upload to this resource is running"


class UploadOffsetError(ProblemError):
    status, code, title = 409, "upload_offset", "The upload goes on at another byte"


class SearchNotFinishedError(ProblemError):
    status, code, title = 409, "search_not_finished", "The search is not over"


class SearchFinishedError(ProblemError):
    status, code, title = 409, "search_finished", "The search is over"


class SearchStartedError(ProblemError):
    status, code, title = 409, "search_started", "The search has started"


class NoSuchPointError(ProblemError):
    status, code, title = 409, "no_point_fits", "No point of the front meets the constraints"


class NoWeightsError(ProblemError):
    status, code, title = 409, "no_weights", "The point has no weights yet"


class ArtifactNotReadyError(ProblemError):
    status, code, title = 409, "artifact_not_ready", "The artifact is not there yet"


class KeyNotUsableError(ProblemError):
    status, code, title = 409, "key_not_usable", "The API key has a successor, or cannot be used any more"


class KeyInFlightError(ProblemError):
    status, code, title = 409, "idempotency_in_flight", "The first request with this Idempotency-Key is still running"


class ShownOnceError(ProblemError):
    status, code, title = 409, "shown_once", "The request was done, and its answer is shown once"


class TooLargeError(ProblemError):
    status, code, title = 413, "too_large", "The body is too large"


class NotSafetensorsError(ProblemError):
    status, code, title = 415, "not_safetensors", "The file is not a safetensors file"


class UnsatisfiableRangeError(ProblemError):
    status, code, title = 416, "range_not_satisfiable", "The range is not within the content"


class MisdirectedError(ProblemError):
    status, code, title = 421, "misdirected", "This service does not answer for that host"


class InvalidError(ProblemError):
    status, code, title = 422, "invalid", "The request is invalid"


class InfeasibleError(ProblemError):
    status, code, title = 422, "infeasible", "No network of this search can meet the constraints"


class KeyReusedError(ProblemError):
    status, code, title = 422, "idempotency_mismatch", "The Idempotency-Key was used for another body"


class TooManyRequestsError(ProblemError):
    status, code, title = 429, "too_many_requests", "Too many requests"


class QuotaExceededError(ProblemError):
    status, code, title = 429, "quota_exceeded", "The tenant's quota is used up"


class InternalError(ProblemError):
    status, code, title = 500, "internal", "The service failed"


class ArtifactDamagedError(ProblemError):
    status, code, title = 500, "artifact_damaged", "The stored file is damaged or lost"


class UnavailableError(ProblemError):
    status, code, title = 503, "unavailable", "The service cannot work right now"


class NoSpaceError(ProblemError):
    status, code, title = 507, "no_space", "The disk is too full"


EVERYWHERE: tuple[type[ProblemError], ...] = (
    BadRequestError,
    UnauthorizedError,
    ForbiddenError,
    CrossOriginError,
    MisdirectedError,
    InvalidError,
    TooManyRequestsError,
    InternalError,
    UnavailableError,
)
"""What any route may answer."""


def responses(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """The problems of a route for OpenAPI, with those of every route; routes with the same status share its entry."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status in sorted({kind.status for kind in (*kinds, *EVERYWHERE)}):
        same = [kind for kind in dict.fromkeys((*kinds, *EVERYWHERE)) if kind.status == status]
        references = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in same]
        documented[status] = {
            "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in same),
            "content": {MEDIA_TYPE: {"schema": references[0] if len(same) == 1 else {"oneOf": references}}},
        }
    return documented


def schemas() -> dict[str, Any]:
    """The OpenAPI components that `responses` refers to."""
    found = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    components: dict[str, Any] = dict(found.pop("$defs"))
    components[Problem.__name__] = found
    for kind in ProblemError.__subclasses__():
        fixed = {"code": {"const": kind.code}, "status": {"const": kind.status}, "title": {"const": kind.title}}
        components[kind.__name__] = {
            "allOf": [{"$ref": f"#/components/schemas/{Problem.__name__}"}],
            "properties": fixed,
        }
    return components


def install(app: FastAPI) -> None:
    """Have `app` answer every error with a problem document."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(DataError, _not_storable)
    app.add_exception_handler(OperationalError, _unavailable)
    app.add_exception_handler(PoolTimeoutError, _unavailable)
    app.add_exception_handler(BlobMissingError, _damaged)
    app.add_exception_handler(BlobCorruptError, _damaged)
    app.add_exception_handler(Exception, _failed)


class ProblemApp:
    """A problem as an application of its own, for middleware."""

    def __init__(self, problem: ProblemError) -> None:
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._problem.response(scope)(scope, receive, send)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response(request.scope)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = field_problems(error.errors(), error.body)
    places = ", ".join(dict.fromkeys(found.pointer or "the body" for found in errors))
    problem = InvalidError(f"correct {places} and send the request again", errors=errors)
    return problem.response(request.scope)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, headers = request.url.path, dict(error.headers or {})
    match error.status_code:
        case 404:
            problem: ProblemError = NotFoundError(f"there is nothing at {path}; /openapi.json lists every route")
        case 405:
            allowed = ", ".join(_allowed(request))
            problem = MethodNotAllowedError(f"{path} allows {allowed}", headers={"Allow": allowed})
        case 413:
            problem = TooLargeError(f"{path} takes a body of {MAX_BYTES} bytes at most", headers=headers)
        case _:
            problem = BadRequestError(str(error.detail), headers=headers)
    return problem.response(request.scope)


def _allowed(request: Request) -> list[str]:
    """The methods of a path. (The framework's own `Allow` names those of the first route that matches.)"""
    routes = request.app.router.routes
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches(dict(request.scope) | {"method": method})[0] is Match.FULL for route in routes)
    ]


async def _not_storable(request: Request, error: Exception) -> Response:
    assert isinstance(error, DataError)
    places = [f"?{name}" for name, value in request.query_params.multi_items() if _NUL in value]
    # Elsewhere it could not be in a body: JSON writes it so.
    if "json" in request.headers.get("content-type", "") and b"\\u0000" in (body := await request.body()):
        places += map(pointer, paths_to(_NUL, json.loads(body)))
    _log.warning("not storable", error=type(error.orig).__name__, places=places)
    errors = [FieldProblem(pointer=place, detail="no text here has a NUL character: remove it") for place in places]
    what = ", ".join(places) or "a value that is out of its range"
    return InvalidError(f"correct {what} and send the request again", errors=errors).response(request.scope)


def database_away() -> UnavailableError:
    """The problem of a request that needs the database while it does not answer."""
    return UnavailableError("the database does not answer; the request may be sent again", headers={"Retry-After": "1"})


async def _unavailable(request: Request, _: Exception) -> Response:
    return database_away().response(request.scope)


async def _damaged(request: Request, error: Exception) -> Response:
    return ArtifactDamagedError(str(error)).response(request.scope)


async def _failed(request: Request, _: Exception) -> Response:
    # The server logs the exception and then closes the connection.
    problem = InternalError(
        "this is a fault of the service; its log has it under the request's id",
        # Sent from outside of the middleware that adds them to all others.
        headers={**HEADERS, "Connection": "close"},
    )
    return problem.response(request.scope)
