"""The errors of the API: one class each, for the document that is sent (RFC 9457) and its OpenAPI schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from paretofit.api.schemas.problems import FieldProblem, Problem

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-Id"
_TYPE = "urn:paretofit:problem:"


class ProblemError(Exception):
    """A request that fails. `extensions` are fields that this kind of problem adds."""

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
        """The document, with the id of the request."""
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
    status, code, title = 401, "unauthorized", "A valid API key is required"


class ForbiddenError(ProblemError):
    status, code, title = 403, "forbidden", "The API key lacks a scope"


class CrossOriginError(ProblemError):
    status, code, title = 403, "cross_origin", "Cross-origin request rejected"


class NotFoundError(ProblemError):
    status, code, title = 404, "not_found", "Resource not found"


class MethodNotAllowedError(ProblemError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"


class DatasetNotReadyError(ProblemError):
    status, code, title = 409, "dataset_not_ready", "The dataset is not ready"


class DatasetInUseError(ProblemError):
    status, code, title = 409, "dataset_in_use", "The dataset is in use"


class NotUploadableError(ProblemError):
    status, code, title = 409, "not_uploadable", "The resource does not accept uploads"


class WeightsNotReadyError(ProblemError):
    status, code, title = 409, "weights_not_ready", "The weights are not ready"


class UploadInProgressError(ProblemError):
    status, code, title = 409, "upload_in_progress", "Another upload to this resource is in progress"


class UploadOffsetError(ProblemError):
    status, code, title = 409, "upload_offset", "The upload must continue at another offset"


class SearchNotFinishedError(ProblemError):
    status, code, title = 409, "search_not_finished", "The search has not finished"


class SearchFinishedError(ProblemError):
    status, code, title = 409, "search_finished", "The search has finished"


class SearchStartedError(ProblemError):
    status, code, title = 409, "search_started", "The search has started"


class NoSuchPointError(ProblemError):
    status, code, title = 409, "no_point_fits", "No point of the front meets the constraints"


class NoWeightsError(ProblemError):
    status, code, title = 409, "no_weights", "The point has no weights yet"


class ArtifactNotReadyError(ProblemError):
    status, code, title = 409, "artifact_not_ready", "The artifact is not ready"


class KeyNotUsableError(ProblemError):
    status, code, title = 409, "key_not_usable", "The API key was rotated, was revoked or has expired"


class KeyInFlightError(ProblemError):
    status, code, title = 409, "idempotency_in_flight", "The first request with this Idempotency-Key is in progress"


class ShownOnceError(ProblemError):
    status, code, title = 409, "shown_once", "The request succeeded, and its secret is shown only once"


class TooLargeError(ProblemError):
    status, code, title = 413, "too_large", "The request body is too large"


class NotSafetensorsError(ProblemError):
    status, code, title = 415, "not_safetensors", "The file is not a safetensors file"


class UnsatisfiableRangeError(ProblemError):
    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"


class MisdirectedError(ProblemError):
    status, code, title = 421, "misdirected", "Unknown host name"


class InvalidError(ProblemError):
    status, code, title = 422, "invalid", "The request is invalid"


class InfeasibleError(ProblemError):
    status, code, title = 422, "infeasible", "No network of this search can meet the constraints"


class KeyReusedError(ProblemError):
    status, code, title = 422, "idempotency_mismatch", "The Idempotency-Key was used with a different body"


class TooManyRequestsError(ProblemError):
    status, code, title = 429, "too_many_requests", "Too many requests"


class QuotaExceededError(ProblemError):
    status, code, title = 429, "quota_exceeded", "Quota exceeded"


class InternalError(ProblemError):
    status, code, title = 500, "internal", "Internal error"


class ArtifactDamagedError(ProblemError):
    status, code, title = 500, "artifact_damaged", "The stored file is corrupt or missing"


class UnavailableError(ProblemError):
    status, code, title = 503, "unavailable", "Service temporarily unavailable"


class NoSpaceError(ProblemError):
    status, code, title = 507, "no_space", "Insufficient disk space"


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
"""Problems that any route may return."""


def responses(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route: its own problems and those of every route, grouped by status."""
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


class ProblemApp:
    """A problem as an ASGI application, for middleware."""

    def __init__(self, problem: ProblemError) -> None:
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._problem.response(scope)(scope, receive, send)


def database_away() -> UnavailableError:
    """The problem of a request while the database is unavailable."""
    return UnavailableError("the database is unavailable: send the request again", headers={"Retry-After": "1"})
