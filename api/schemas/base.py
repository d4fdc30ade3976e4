"""What every schema shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """A body that a client sends: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Response(BaseModel):
    """A body that the service sends: fields are only ever added, and a client ignores those it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)
