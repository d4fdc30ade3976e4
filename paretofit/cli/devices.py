"""`paretofit devices`."""

from __future__ import annotations

import typer

from paretofit.api.schemas.devices import Device
from paretofit.cli.output import print_json, stdout, table
from paretofit.cli.session import AsJson, client


def devices(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the devices that can measure latency, for latency constraints."""
    with client(context) as service:
        listed = service.devices()
    if as_json:
        print_json(listed)
        return
    rows = [
        (
            device.name,
            "all" if device.threads is None else str(device.threads),
            str(len(device.workers)),
            _machines(device),
        )
        for device in listed
    ]
    stdout().print(table(("device", "#threads", "#workers", "machines"), rows))


def _machines(device: Device) -> str:
    described = (", ".join(f"{name} {_short(value)}" for name, value in each.items()) for each in device.machines)
    return "; ".join(described)


def _short(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
