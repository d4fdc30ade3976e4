"""Removes leftovers in a thread of its own: a large store takes long to list, and job messages must not wait for it."""

from __future__ import annotations

import threading
from typing import Final

import structlog
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from paretofit.core.settings import Settings
from paretofit.db import garbage_collection
from paretofit.db.blobs import open_store
from paretofit.db.engine import connect

_LOCK_SECONDS: Final = 5.0
_LATER: Final = (OperationalError, InterfaceError, InternalError, OSError)
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Collector:
    """Collects once for each `start`, if it does not do so already. What fails is left for the next time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, and return at once."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._collect, name="collector", daemon=True)
            self._thread.start()

    def _collect(self) -> None:
        settings = self._settings
        engine = connect(settings.sqlalchemy_url, pool_size=1, application="collector", lock_seconds=_LOCK_SECONDS)
        try:
            collected = garbage_collection.collect(
                engine, open_store(settings.blobs), uploads=settings.home / "uploads", seconds=settings.orphan_seconds
            )
        except _LATER as error:
            _log.warning("leftovers not collected", error=str(error).strip())
        else:
            if collected:
                _log.info("leftovers collected", collected=collected)
        finally:
            engine.dispose()
