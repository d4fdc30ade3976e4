"""What happened in a search."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response


class Event(Response):
    """An event: numbered from 1 in its search, without gaps. As a Server-Sent Event its id is `seq`, its name `type`,
    its data this document."""

    seq: int
    type: str
    data: dict[str, Any] = Field(description="What the type says.")
    at: datetime
