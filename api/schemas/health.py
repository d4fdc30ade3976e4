"""Whether the service is there and can work."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from paretofit.api.schemas.base import Response


class Health(Response):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Response):
    """Whether requests can be served. Without Redis they are accepted, but the work waits until it is back."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str] = Field(description="postgres, migrations, redis: `ok`, or what is wrong.")
