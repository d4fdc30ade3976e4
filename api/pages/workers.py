"""The page of the workers and of what latencies can be measured on."""

from __future__ import annotations

from fastapi import Response

from api.pages.rendering import page
from api.pages.route import router as new_router
from api.pages.visitor import Visitor
from api.services import Db
from api.v1 import devices
from api.v1 import workers as api

router = new_router()


@router.get("/workers")
def read(session: Db, visitor: Visitor) -> Response:
    """The workers that were heard of within a day."""
    workers = sorted(api.read_list(session).data, key=lambda worker: (not worker.alive, worker.name))
    return page(
        "workers.html", here="workers", visitor=visitor, workers=workers, devices=devices.read_list(session).data
    )
