"""Devices for latency measurements."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response


class Device(Response):
    """A runtime on hardware of a live worker: the `device` of a latency_ms constraint or objective."""

    name: str
    runtime: str
    kind: str = Field(description="cpu or cuda.")
    threads: int | None = Field(description="CPU threads; null: all.")
    workers: list[str] = Field(description="Workers that offer it.")
    machines: list[dict[str, Any]] = Field(
        description="Their machines: processor, cores, runtime version. Measurements apply to machines with the same "
        "description."
    )


class DeviceList(Response):
    data: list[Device]
