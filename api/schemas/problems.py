"""Errors as RFC 9457 documents (`application/problem+json`)."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from paretofit.api.schemas.base import Response


class FieldProblem(Response):
    """An error in one field of a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.")
    detail: str


class Problem(Response):
    """An error. `code` is stable and machine-readable; `detail` says what is wrong and what to do. Some codes add
    fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="URI of the kind of problem: `urn:paretofit:problem:` and the code.")
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] = Field(default_factory=list)
    request_id: str | None = None

    @property
    def extensions(self) -> dict[str, Any]:
        """The fields that this kind of problem adds, such as `nearest`."""
        return dict(self.model_extra or {})
