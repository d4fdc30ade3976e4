"""Keeps a lease while the work goes on, knows what is asked of it, and commits what is written under it."""

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
"""What it looks like when PostgreSQL is away, or ended this transaction to break a deadlock or because this process was
stopped in the middle of it (`paretofit.db.engine.connect`): worth another try."""

_SHARE: Final = 7 / 8
_RETRY_SECONDS: Final = 0.5
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class StoppedError(Exception):
    """The work is to end before it is done: it is not this worker's any more, or something asks for its end."""


class LeaseRenewer:
    """A thread that renews a lease and looks what is asked, inside a `with` block.

    `claimed_at` is the monotonic time before the claim. Time is counted from before each renewal is sent, so `is_over`
    comes before anybody else may take the lease.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        seconds: float,
        claimed_at: float,
        renew: Callable[[Session], ControlFlags],
        renew_every: float,
        look: Callable[[Session], ControlFlags],
        look_every: float,
    ) -> None:
        self._engine = engine
        self._seconds = seconds
        self._renewed_at = claimed_at
        self._renew = renew
        self._renew_every = renew_every
        self._look = look
        self._look_every = min(look_every, renew_every)
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self.asked = ControlFlags(cancel=False, pause=False, limit=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Not joined: a statement that hangs harms nobody, the epoch guards it.
        self._ended.set()

    @property
    def is_over(self) -> bool:
        """Whether the lease was taken away, or 7/8 of it passed without a renewal: stop the work, write nothing.

        For good: who sees it ends the work and removes its files, so no later renewal may let the rest go on.
        """
        if time.monotonic() >= self._renewed_at + _SHARE * self._seconds:
            self._lost.set()
        return self._lost.is_set()

    def write(self, work: Callable[[Session], object]) -> bool:
        """Commit `work`, which begins with the lease's guard; again and again while PostgreSQL is away.

        False: the lease is over, and nothing was written. What `work` raises otherwise is raised.
        """
        while not self.is_over:
            began = time.monotonic()
            try:
                with transaction(self._engine) as session:
                    work(session)
            except StaleLeaseError as error:
                _log.warning("lease lost", error=str(error))
                self._lost.set()
                self.count(counters.STALE_WRITES)
            except UNREACHABLE as error:
                _log.warning("not written yet", error=str(error))
                time.sleep(_RETRY_SECONDS)
            else:
                self._renewed_at = max(self._renewed_at, began)
                return True
        return False

    def count(self, name: str) -> None:
        """Count something rare (`paretofit.db.counters`), unless PostgreSQL is away."""
        with suppress(*UNREACHABLE), transaction(self._engine) as session:
            counters.add(session, name)

    def read(self, work: Callable[[Session], T]) -> T | None:
        """What `work` gives; again and again while PostgreSQL is away. None: the lease is over."""
        while not self.is_over:
            try:
                with transaction(self._engine) as session:
                    return work(session)
            except UNREACHABLE as error:
                _log.warning("not read yet", error=str(error))
                time.sleep(_RETRY_SECONDS)
        return None

    def _keep(self) -> None:
        while not (self._ended.wait(self._look_every) or self.is_over):
            began = time.monotonic()
            due = began >= self._renewed_at + self._renew_every
            try:
                with transaction(self._engine) as session:
                    asked = self._renew(session) if due else self._look(session)
            except StaleLeaseError as error:
                if not self._ended.is_set():
                    _log.warning("lease lost", error=str(error))
                    self._lost.set()
                return
            except UNREACHABLE as error:
                _log.warning("lease not renewed", error=str(error))
                continue
            self.asked = asked
            if due:
                self._renewed_at = max(self._renewed_at, began)
