"""Lists that arrive a page at a time."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from paretofit.api.schemas.base import Response

Item = TypeVar("Item")


class Page(Response, Generic[Item]):
    """Some of a list. Follow `next_cursor` (as `?cursor=`) while `has_more`.

    Logs and events grow at their end: their `next_cursor` is given also when `has_more` is false, and asks for what is
    appended later.
    """

    data: list[Item]
    has_more: bool
    next_cursor: str | None = Field(description="Opaque; valid for the same list with the same filters.")
