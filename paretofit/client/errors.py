"""Exceptions of the client. Each message says what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paretofit.api.schemas.datasets import Dataset
    from paretofit.api.schemas.exports import Export
    from paretofit.api.schemas.weights import Weights


@dataclass(frozen=True, slots=True)
class FieldError:
    """An invalid field: `pointer` is its JSON pointer in the request, "" for the whole body."""

    pointer: str
    detail: str


class ParetofitError(Exception):
    """Base class of all exceptions of the client."""


class ApiError(ParetofitError):
    """The service rejected a request.

    Attributes:
        status: HTTP status code.
        code: Stable error code, such as `infeasible`.
        detail: Message for people.
        errors: The invalid fields, as `FieldError`.
        request_id: Id of the request in the logs of the service.
        problem: The whole problem document (RFC 9457).
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.code = str(problem.get("code", f"http_{status}"))
        self.detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
        self.request_id: str | None = problem.get("request_id")
        self.errors = tuple(
            FieldError(str(error.get("pointer") or ""), str(error.get("detail", "")))
            for error in problem.get("errors") or ()
        )
        super().__init__(self._message())

    def _message(self) -> str:
        fields = [f"  {error.pointer or '(body)'}: {error.detail}" for error in self.errors]
        return "\n".join([self.detail, *fields])


class UnreachableError(ParetofitError):
    """The service did not respond within `retry_timeout`."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        super().__init__(
            f"no response from {url} ({reason}); start a service with `paretofit up`, or set PARETOFIT_URL to yours"
        )


class DigestMismatchError(ParetofitError):
    """A downloaded file does not match its SHA-256; it was deleted."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"SHA-256 mismatch: the downloaded file has {actual}, expected {expected}; download it again")


class DatasetRejectedError(ParetofitError):
    """Validation rejected a dataset. `reasons` lists why; `dataset` is the rejected dataset."""

    def __init__(self, dataset: Dataset, reasons: tuple[str, ...]) -> None:
        self.dataset = dataset
        self.reasons = reasons
        super().__init__("\n".join([f"dataset {dataset.name!r} was rejected:", *(f"  {reason}" for reason in reasons)]))


class WeightsRejectedError(ParetofitError):
    """Weights could not be fetched or converted. `weights.error` says why."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        error = weights.error or {}
        super().__init__(f"weights {weights.name!r} were rejected ({error.get('code')}): {error.get('detail')}")


class ExportFailedError(ParetofitError):
    """An export failed. `export.error` says why."""

    def __init__(self, export: Export) -> None:
        self.export = export
        error = export.error or {}
        super().__init__(f"export as {export.format} failed ({error.get('code')}): {error.get('detail')}")


class UsageError(ParetofitError):
    """Invalid usage, such as an unreadable file or an ambiguous name."""


class NoSuchError(ParetofitError):
    """No resource matches the given name or id."""
