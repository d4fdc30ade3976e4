"""The page of workers and devices."""

from __future__ import annotations

from fastapi import Response

from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import page_router
from paretofit.api.services import Db
from paretofit.api.v1 import devices
from paretofit.api.v1 import workers as api

router = page_router()


@router.get("/workers")
def read(session: Db, visitor: Visitor) -> Response:
    """The workers that sent a heartbeat within the last day."""
    workers = sorted(api.read_list(session).data, key=lambda worker: (not worker.alive, worker.name))
    return page(
        "workers.html", here="workers", visitor=visitor, workers=workers, devices=devices.read_list(session).data
    )
