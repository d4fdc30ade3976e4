"""What can go wrong between a client and the service. Each message says what to do next."""

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
    """What is wrong with one field: `pointer` is its JSON pointer in the request ("" for the whole)."""

    pointer: str
    detail: str


class ParetofitError(Exception):
    """Any failure that the client reports."""


class ApiError(ParetofitError):
    """The service refused a request: its problem document (RFC 9457), in which `code` is the stable part."""

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
    """Nobody answers at the service's URL, or the connection was lost for longer than the client's patience."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        super().__init__(
            f"no answer from {url} ({reason}). Start a service by `paretofit up`, or name yours in PARETOFIT_URL."
        )


class DigestMismatchError(ParetofitError):
    """A downloaded file is not what the service says it is; nothing was kept."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(
            f"the downloaded bytes have SHA-256 {found}, the service says {expected}; download the file again"
        )


class DatasetRejectedError(ParetofitError):
    """An ingested dataset is no dataset: `reasons` says why, `dataset` is all that is known of it."""

    def __init__(self, dataset: Dataset, reasons: tuple[str, ...]) -> None:
        self.dataset = dataset
        self.reasons = reasons
        super().__init__("\n".join([f"dataset {dataset.name!r} was rejected:", *(f"  {reason}" for reason in reasons)]))


class WeightsRejectedError(ParetofitError):
    """Weights could not be converted or fetched: `weights.error` says why."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        error = weights.error or {}
        super().__init__(f"weights {weights.name!r} were rejected ({error.get('code')}): {error.get('detail')}")


class ExportFailedError(ParetofitError):
    """A point could not be exported: `export.error` says why."""

    def __init__(self, export: Export) -> None:
        self.export = export
        error = export.error or {}
        super().__init__(f"export as {export.format} failed ({error.get('code')}): {error.get('detail')}")


class UsageError(ParetofitError):
    """What was asked for makes no sense: a file that cannot be read, a name that means several things."""


class NoSuchError(ParetofitError):
    """Nothing has the name that was given."""
