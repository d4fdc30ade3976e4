"""The processes that do the work."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response


class Worker(Response):
    """A worker process that said it is there."""

    name: str
    queue: str
    device: str | None
    description: dict[str, Any]
    alive: bool = Field(description="Whether it was heard of within the last minute.")
    created_at: datetime
    seen_at: datetime


class WorkerList(Response):
    data: list[Worker]
