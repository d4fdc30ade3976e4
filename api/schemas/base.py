"""Base classes of the schemas."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """A request body: unknown fields are rejected, so that misspelled names are noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Response(BaseModel):
    """A response body: fields are only ever added, and clients ignore unknown ones."""

    model_config = ConfigDict(extra="ignore", frozen=True)
