"""Keyset pagination, newest first: each page starts after the last row of the previous one, so pages stay consistent
while rows are added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Keyset:
    """The position of a row in a list ordered by creation time and id."""

    created_at: datetime
    id: str


def newest_first(
    query: Select[Row],
    created_at: InstrumentedAttribute[datetime],
    identifier: InstrumentedAttribute[str],
    after: Keyset | None,
) -> Select[Row]:
    """`query` ordered newest first, from the row that follows `after`."""
    position: tuple[Any, Any] = (created_at, identifier)
    if after is not None:
        query = query.where(tuple_(*position) < (after.created_at, after.id))
    return query.order_by(created_at.desc(), identifier.desc())
