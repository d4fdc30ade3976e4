"""A worker's main process says in the database that it is there."""

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

EVERY: Final = 10.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_ended = threading.Event()
_threads: list[threading.Thread] = []


def _start(**_: Any) -> None:
    # Celery says so again after it has lost the broker.
    if not _threads:
        _threads.append(threading.Thread(target=_beat, args=(slot(),), name="heartbeat", daemon=True))
        _threads[0].start()


def _end(**_: Any) -> None:
    _ended.set()
    for thread in _threads:
        thread.join(2)


def _beat(slot: Slot) -> None:
    # No pool: a connection that is open while Celery forks would be the child's too.
    engine = create_engine(get_settings().sqlalchemy_url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    ended = False
    while not ended:
        try:
            with transaction(engine) as session:
                workers.beat(session, slot.name, queue=slot.queue, device=slot.device, description=slot.describe())
        except (OperationalError, InterfaceError) as error:
            _log.warning("no heartbeat", error=str(error).strip())
        ended = _ended.wait(EVERY)
    try:
        with transaction(engine) as session:
            workers.leave(session, slot.name)
    except (OperationalError, InterfaceError) as error:
        _log.warning("no farewell", error=str(error).strip())


worker_ready.connect(_start)
worker_shutdown.connect(_end)
