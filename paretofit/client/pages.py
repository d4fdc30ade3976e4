"""Iteration over paginated lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

from pydantic import BaseModel

from paretofit.api.schemas.pages import Page
from paretofit.client.transport import Transport

Item = TypeVar("Item", bound=BaseModel)


_PAGE_SIZE = 100


async def items(
    transport: Transport, path: str, kind: type[Item], filters: Mapping[str, str | int | None] | None = None
) -> AsyncIterator[Item]:
    """Iterate over all items of a list; pages are fetched on demand."""
    params: dict[str, str | int] = {name: value for name, value in (filters or {}).items() if value is not None}
    params["limit"] = _PAGE_SIZE
    while True:
        page: Page[Item] = await transport.read(
            Page[kind],  # type: ignore[valid-type]  # pydantic builds the model at run time
            path,
            params=params,
        )
        for item in page.data:
            yield item
        if not page.has_more or page.next_cursor is None:
            return
        params["cursor"] = page.next_cursor
