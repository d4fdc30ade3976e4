"""Renews a lease while a job runs, polls its control flags, and commits writes under the lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from paretofit.db import counters
from paretofit.db.engine import transaction
from paretofit.db.jobs import StaleLeaseError
from paretofit.db.leases import ControlFlags

T = TypeVar("T")
UNREACHABLE: Final = (OperationalError, InterfaceError, InternalError, PoolTimeoutError)
"""Errors that are worth a retry: PostgreSQL is unavailable, or it ended the transaction to break a deadlock or because
this process was suspended in the middle of it (`paretofit.db.engine.connect`)."""

_USABLE_FRACTION: Final = 7 / 8
_RETRY_SECONDS: Final = 0.5
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class StoppedError(Exception):
    """The work has to stop before it is complete: the lease is lost, or a stop was requested."""


class LeaseRenewer:
    """Renews a lease and polls its control flags in a thread, inside a `with` block.

    `claimed_at` is the monotonic time before the claim. Time is measured from before each renewal is sent, so `is_lost`
    becomes True before another worker may claim the job.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        seconds: float,
        claimed_at: float,
        renew: Callable[[Session], ControlFlags],
        renew_every: float,
        poll: Callable[[Session], ControlFlags],
        poll_every: float,
    ) -> None:
        self._engine = engine
        self._seconds = seconds
        self._renewed_at = claimed_at
        self._renew = renew
        self._renew_every = renew_every
        self._poll = poll
        self._poll_every = min(poll_every, renew_every)
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew_loop, name="lease-renewer", daemon=True)
        self.control_flags = ControlFlags(cancel=False, pause=False, limit=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Not joined: a statement that hangs is harmless, because the epoch guards it.
        self._stopped.set()

    @property
    def is_lost(self) -> bool:
        """Whether the lease was reclaimed, or 7/8 of it passed without a renewal: stop the work and write nothing.

        This is permanent: callers stop the work and remove its files, so a later renewal must not revive the rest.
        """
        if time.monotonic() >= self._renewed_at + _USABLE_FRACTION * self._seconds:
            self._lost.set()
        return self._lost.is_set()

    def write(self, work: Callable[[Session], object]) -> bool:
        """Commit `work`, which begins with the lease's guard, and retry while PostgreSQL is unavailable.

        Returns False if the lease is lost; then nothing was written. Other errors of `work` propagate.
        """
        while not self.is_lost:
            began = time.monotonic()
            try:
                with transaction(self._engine) as session:
                    work(session)
            except StaleLeaseError as error:
                _log.warning("lease_lost", error=str(error))
                self._lost.set()
                self.count(counters.STALE_WRITES)
            except UNREACHABLE as error:
                _log.warning("database_unavailable", operation="write", error=str(error), retry_seconds=_RETRY_SECONDS)
                time.sleep(_RETRY_SECONDS)
            else:
                self._renewed_at = max(self._renewed_at, began)
                return True
        return False

    def count(self, name: str) -> None:
        """Increment a counter (`paretofit.db.counters`), unless PostgreSQL is unavailable."""
        with suppress(*UNREACHABLE), transaction(self._engine) as session:
            counters.add(session, name)

    def read(self, work: Callable[[Session], T]) -> T | None:
        """The result of `work`, retried while PostgreSQL is unavailable. None: the lease is lost."""
        while not self.is_lost:
            try:
                with transaction(self._engine) as session:
                    return work(session)
            except UNREACHABLE as error:
                _log.warning("database_unavailable", operation="read", error=str(error), retry_seconds=_RETRY_SECONDS)
                time.sleep(_RETRY_SECONDS)
        return None

    def _renew_loop(self) -> None:
        while not (self._stopped.wait(self._poll_every) or self.is_lost):
            began = time.monotonic()
            due = began >= self._renewed_at + self._renew_every
            try:
                with transaction(self._engine) as session:
                    flags = self._renew(session) if due else self._poll(session)
            except StaleLeaseError as error:
                if not self._stopped.is_set():
                    _log.warning("lease_lost", error=str(error))
                    self._lost.set()
                return
            except UNREACHABLE as error:
                _log.warning("lease_renewal_failed", error=str(error), retry_seconds=self._poll_every)
                continue
            self.control_flags = flags
            if due:
                self._renewed_at = max(self._renewed_at, began)
