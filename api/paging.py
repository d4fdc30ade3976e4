"""Pagination: cursors and list parameters."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from paretofit.api.problems import InvalidError
from paretofit.api.schemas.pages import Page
from paretofit.api.schemas.problems import FieldProblem
from paretofit.db.keyset import Keyset


class _Listed(Protocol):
    @property
    def created_at(self) -> datetime: ...
    @property
    def id(self) -> str: ...


Row = TypeVar("Row")
Created = TypeVar("Created", bound=_Listed)
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=200, description="Items per page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="The `next_cursor` of the previous page.")]


def keyset(cursor: str | None) -> Keyset | None:
    """The position of a cursor in a newest-first list. Raises InvalidError."""
    if cursor is None:
        return None
    try:
        created_at, identifier = json.loads(base64.urlsafe_b64decode(cursor))
        place = Keyset(datetime.fromisoformat(created_at), str(identifier))
    except (binascii.Error, ValueError, TypeError) as error:
        raise _bad_cursor() from error
    # Ids have no other characters, and the database rejects some of them.
    if not (place.id.isascii() and place.id.isprintable()):
        raise _bad_cursor()
    return place


def position(cursor: str | None, *, start: int) -> int:
    """The position of a cursor in a numbered list. Raises InvalidError."""
    if cursor is None:
        return start
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise _bad_cursor()
    return int(cursor)


def newest_first(rows: Sequence[Created], limit: int, convert: Callable[[Created], Item]) -> Page[Item]:
    """A page of a newest-first list, from up to `limit` + 1 rows."""
    shown, more = rows[:limit], len(rows) > limit
    cursor = None
    if more:
        last = shown[-1]
        cursor = base64.urlsafe_b64encode(json.dumps([last.created_at.isoformat(), last.id]).encode()).decode()
    return Page(data=[convert(row) for row in shown], has_more=more, next_cursor=cursor)


def numbered(
    rows: Sequence[Row],
    limit: int,
    number: Callable[[Row], int],
    convert: Callable[[Row], Item],
    *,
    follow_from: int | None = None,
) -> Page[Item]:
    """A page of a numbered list, from up to `limit` + 1 rows; its cursor is the number of its last row.

    `follow_from` is the cursor of this page in an append-only list: then the last page has a cursor too.
    """
    shown, more = rows[:limit], len(rows) > limit
    last = number(shown[-1]) if shown else follow_from
    keeps = more or follow_from is not None
    return Page(data=[convert(row) for row in shown], has_more=more, next_cursor=str(last) if keeps else None)


def _bad_cursor() -> InvalidError:
    detail = "invalid cursor: use the `next_cursor` of a page with the same filters"
    return InvalidError(detail, errors=[FieldProblem(pointer="?cursor", detail=detail)])
