"""Lists that arrive a page at a time, as iterators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from api.schemas.base import Response
from api.schemas.pages import Page
from paretofit.transport import Transport

Item = TypeVar("Item", bound=Response)


_LIMIT = 100


def items(
    transport: Transport, path: str, kind: type[Item], filters: Mapping[str, str | int | None] | None = None
) -> Iterator[Item]:
    """Everything in a list, fetched as it is asked for."""
    params: dict[str, str | int] = {name: value for name, value in (filters or {}).items() if value is not None}
    params["limit"] = _LIMIT
    while True:
        page = Page[kind].model_validate_json(  # type: ignore[valid-type]  # pydantic builds the model at run time
            transport.request("GET", path, params=params).content
        )
        yield from page.data
        if not page.has_more or page.next_cursor is None:
            return
        params["cursor"] = page.next_cursor
