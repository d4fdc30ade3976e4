"""Worker processes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response


class Worker(Response):
    """A registered worker process."""

    name: str
    queue: str
    device: str | None
    description: dict[str, Any]
    alive: bool = Field(description="Whether it sent a heartbeat within the last minute.")
    created_at: datetime
    seen_at: datetime


class WorkerList(Response):
    data: list[Worker]
