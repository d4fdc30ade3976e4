"""Heartbeats of a worker's main process, written to the database."""

from __future__ import annotations

import threading
from typing import Any, Final

import structlog
from celery.signals import worker_ready, worker_shutdown
from sqlalchemy import create_engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from paretofit.core.settings import get_settings
from paretofit.db import workers
from paretofit.db.engine import transaction
from paretofit.workers.runtime import Slot, slot

INTERVAL_SECONDS: Final = 10.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_stopping = threading.Event()
_threads: list[threading.Thread] = []


def _start(**_: Any) -> None:
    # Celery sends the signal again after it has lost the broker.
    if not _threads:
        _threads.append(threading.Thread(target=_beat, args=(slot(),), name="heartbeat", daemon=True))
        _threads[0].start()


def _end(**_: Any) -> None:
    _stopping.set()
    for thread in _threads:
        thread.join(2)


def _beat(slot: Slot) -> None:
    # No pool: a connection that is open while Celery forks would be shared with the child.
    engine = create_engine(get_settings().sqlalchemy_url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    stopped = False
    while not stopped:
        try:
            with transaction(engine) as session:
                workers.beat(session, slot.name, queue=slot.queue, device=slot.device, description=slot.describe())
        except (OperationalError, InterfaceError) as error:
            _log.warning("heartbeat_failed", error=str(error).strip(), retry_seconds=INTERVAL_SECONDS)
        stopped = _stopping.wait(INTERVAL_SECONDS)
    try:
        with transaction(engine) as session:
            workers.deregister(session, slot.name)
    except (OperationalError, InterfaceError) as error:
        _log.warning("worker_deregistration_failed", error=str(error).strip())


worker_ready.connect(_start)
worker_shutdown.connect(_end)
