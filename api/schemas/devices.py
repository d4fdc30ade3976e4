"""What latencies can be measured on."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response


class Device(Response):
    """A runtime on hardware that live workers have: `device` of a constraint or an objective on latency_ms."""

    name: str
    runtime: str
    kind: str = Field(description="cpu or cuda.")
    threads: int | None = Field(description="Of the CPU; null: all that the machine has.")
    workers: list[str] = Field(description="Those that offer it.")
    machines: list[dict[str, Any]] = Field(
        description="Theirs: processor, cores, version of the runtime. Measurements hold for machines of one "
        "description."
    )


class DeviceList(Response):
    data: list[Device]
