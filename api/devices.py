"""The devices that live workers offer."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from paretofit.api.pointers import pointer
from paretofit.api.problems import InvalidError
from paretofit.api.schemas.devices import Device
from paretofit.api.schemas.problems import FieldProblem
from paretofit.db import workers
from paretofit.search.contracts.latency import DEVICES
from paretofit.search.contracts.spec import SearchSpec

ALIVE: Final = timedelta(minutes=1)
"""A worker with a heartbeat this recent counts as live."""


def offered(session: Session) -> list[Device]:
    """The devices that live workers offer, in the order of `paretofit.search.latency.devices`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in workers.seen_within(session, ALIVE.total_seconds()):
        for name, machine in row.description.get("devices", {}).items():
            found.setdefault(name, {})[row.name] = machine
    return [
        Device(
            name=name,
            runtime=device.runtime,
            kind=device.kind,
            threads=device.threads,
            workers=list(found[name]),
            machines=_distinct(found[name].values()),
        )
        for name, device in DEVICES.items()
        if name in found
    ]


def require(session: Session, spec: SearchSpec) -> None:
    """Raises InvalidError for a device that no live worker offers. Without live workers every device is accepted."""
    live = [row for row in workers.seen_within(session, ALIVE.total_seconds()) if row.queue == "train"]
    if not spec.devices or not live:
        return
    names = [device.name for device in offered(session)]
    errors = [
        FieldProblem(
            pointer=pointer([place, index, "device"]),
            detail=f"no live worker offers {each.device}: use one of {', '.join(names) or 'none'} (GET /v1/devices)",
        )
        for place, listed in (("constraints", spec.constraints), ("objectives", spec.objectives))
        for index, each in enumerate(listed)
        if each.device is not None and each.device not in names
    ]
    if errors:
        raise InvalidError("; ".join(error.detail for error in errors), errors=errors)


def _distinct(machines: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for machine in machines:
        if machine not in found:
            found.append(machine)
    return found
