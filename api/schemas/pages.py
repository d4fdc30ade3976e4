"""Paginated lists."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from paretofit.api.schemas.base import Response

Item = TypeVar("Item")


class Page(Response, Generic[Item]):
    """A page of a list. Follow `next_cursor` (as `?cursor=`) while `has_more`.

    Logs and events are append-only: their last page has a `next_cursor` too, which returns what is appended later.
    """

    data: list[Item]
    has_more: bool
    next_cursor: str | None = Field(description="Opaque; valid for the same list with the same filters.")
