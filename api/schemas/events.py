"""Events of a search."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response


class Event(Response):
    """An event, numbered from 1 within its search, without gaps. As a Server-Sent Event, `seq` is its id, `type` its
    name and this document its data."""

    seq: int
    type: str
    data: dict[str, Any] = Field(description="Depends on the type.")
    at: datetime
