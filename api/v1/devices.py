"""Devices for latency measurements."""

from __future__ import annotations

from fastapi import APIRouter

from paretofit.api import devices, problems
from paretofit.api.access import requires
from paretofit.api.schemas.devices import DeviceList
from paretofit.api.services import Db

router = APIRouter(prefix="/devices", tags=["workers"])


@router.get("", dependencies=[requires("read")], operation_id="list_devices", responses=problems.responses())
def read_list(session: Db) -> DeviceList:
    """List the devices that live workers offer."""
    return DeviceList(data=devices.offered(session))
