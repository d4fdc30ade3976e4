"""Worker processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from paretofit.api import problems
from paretofit.api.access import requires
from paretofit.api.devices import ALIVE
from paretofit.api.schemas.workers import Worker, WorkerList
from paretofit.api.services import Db
from paretofit.db import workers

router = APIRouter(prefix="/workers", tags=["workers"])
_SHOWN = timedelta(days=1)


@router.get("", dependencies=[requires("read")], operation_id="list_workers", responses=problems.responses())
def read_list(session: Db) -> WorkerList:
    """List the workers that sent a heartbeat within the last day."""
    now = datetime.now(UTC)
    return WorkerList(
        data=[
            Worker(
                name=row.name,
                queue=row.queue,
                device=row.device,
                description=row.description,
                alive=now - row.seen_at < ALIVE,
                created_at=row.created_at,
                seen_at=row.seen_at,
            )
            for row in workers.seen_within(session, _SHOWN.total_seconds())
        ]
    )
