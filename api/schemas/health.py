"""Liveness and readiness."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from paretofit.api.schemas.base import Response


class Health(Response):
    """Liveness of the process."""

    status: Literal["ok"]


class Readiness(Response):
    """Readiness to serve requests. Without Redis, requests are accepted and their work starts when Redis is back."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str] = Field(description="postgres, migrations, redis: `ok`, or the error.")
