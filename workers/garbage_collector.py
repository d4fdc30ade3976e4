"""Runs garbage collection in its own thread: listing a large store is slow, and job messages must not wait for it."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Final

import structlog
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from paretofit.core.settings import Settings
from paretofit.db import garbage_collection
from paretofit.db.blobs import open_store
from paretofit.db.engine import connect

_LOCK_SECONDS: Final = 5.0
_TRANSIENT_ERRORS: Final = (OperationalError, InterfaceError, InternalError, OSError)
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Collector:
    """Collects once per `start`, unless a collection is already running. Failures are retried at the next start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start a collection in the background."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._collect, name="collector", daemon=True)
            self._thread.start()

    def _collect(self) -> None:
        settings = self._settings
        engine = connect(settings.sqlalchemy_url, pool_size=1, application="collector", lock_seconds=_LOCK_SECONDS)
        try:
            collected = garbage_collection.collect(
                engine,
                open_store(settings.blobs),
                uploads=settings.home / "uploads",
                seconds=settings.gc_retention_seconds,
            )
        except _TRANSIENT_ERRORS as error:
            _log.warning("garbage_collection_failed", error=str(error).strip())
        else:
            if collected:
                _log.info("garbage_collected", **asdict(collected))
        finally:
            engine.dispose()
