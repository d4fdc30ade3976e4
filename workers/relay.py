"""The process that keeps things going: `python -m paretofit.workers.relay` sends job messages, takes back expired
leases, sends again what got lost, and tells Redis of new events.

Several may run at once. PostgreSQL or Redis may be away for any time: every step is tried again.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog
from kombu.exceptions import OperationalError as BrokerError
from psycopg import sql
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from paretofit.core import tracing
from paretofit.core.logging import configure_logging
from paretofit.core.settings import Settings, get_settings
from paretofit.db import audit, events, limits, outbox, reaping, sessions, tenants, webhooks, workers
from paretofit.db.engine import connect, transaction
from paretofit.workers.app import QUEUES, app, send
from paretofit.workers.garbage_collector import Collector

_BATCH: Final = 200
_LOCK_SECONDS: Final = 2.0
_LONGEST_PAUSE: Final = 5.0
_WORKER_RETENTION_SECONDS: Final = 24 * 3600.0
_DELIVERED_SECONDS: Final = 30 * 24 * 3600.0
_BUSY_FACTOR: Final = 20
_AWAY: Final = (
    OperationalError,
    InterfaceError,
    InternalError,
    psycopg.OperationalError,
    BrokerError,
    RedisError,
    ConnectionError,
)
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _PeriodicTask:
    """Something to do again and again; after a failure after a pause that doubles."""

    name: str
    every: float
    work: Callable[[], object]
    due: float = 0.0
    failures: int = 0

    def run_if_due(self, now: float) -> None:
        if now < self.due:
            return
        try:
            self.work()
        except _AWAY as error:
            self.failures += 1
            pause = min(self.every + 0.1 * 2**self.failures, max(_LONGEST_PAUSE, self.every))
            _log.warning("postponed", chore=self.name, error=str(error).strip(), seconds=round(pause, 1))
        else:
            pause = self.every
            self.failures = 0
        self.due = time.monotonic() + pause


class Relay:
    """The chores of one relay, until `stopping` is set."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._engine: Engine = connect(
            settings.sqlalchemy_url, pool_size=2, application="relay", lock_seconds=_LOCK_SECONDS
        )
        self._redis = Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=5)
        self._listening: psycopg.Connection | None = None
        self._changed: set[str] = set()
        self._collector = Collector(settings)
        self._chores = [
            _PeriodicTask("send", 0.0, self.send),
            _PeriodicTask("reap", settings.reap_seconds, self.reap),
            _PeriodicTask("limits", settings.reap_seconds, self.enforce),
            _PeriodicTask("resend", settings.resend_seconds / 2, self.resend),
            _PeriodicTask("forget", 3600.0, self.purge_expired),
            _PeriodicTask("collect", 3600.0, self._collector.start),
        ]
        self._announcing = _PeriodicTask("announce", 0.0, self.announce)

    def run(self) -> None:
        """Work until it is time to stop."""
        try:
            while not self._stopping.is_set():
                now = time.monotonic()
                for chore in self._chores:
                    chore.run_if_due(now)
                self._listen(self._settings.relay_seconds)
                if self._changed:
                    self._announcing.run_if_due(time.monotonic())
        finally:
            if self._listening is not None:
                self._listening.close()
            self._redis.close()
            self._engine.dispose()

    def send(self) -> None:
        """Publish the job messages that are due."""
        sent = _BATCH
        while sent == _BATCH:
            with transaction(self._engine) as session:
                sent = outbox.send_due(session, send, _BATCH)

    def reap(self) -> None:
        """Take back what nobody looks after."""
        settings = self._settings
        reaped = reaping.reap(
            self._engine,
            lease_seconds=settings.lease_seconds,
            max_crashes=settings.max_crashes,
            back_off=settings.retry_seconds,
        )
        if reaped:
            _log.warning("leases taken back", reaped=reaped)

    def enforce(self) -> None:
        """Wake the planner for searches whose time is over while their trials wait."""
        with transaction(self._engine) as session:
            limits.enforce(session)

    def resend(self) -> None:
        """Send again what got lost: at once if its queue is empty, later if it may still be in the queue, and not while
        the queue holds as many messages as there is to take."""
        for task, queue in QUEUES.items():
            with app.connection_for_read() as connection:
                waiting = connection.default_channel.queue_declare(queue).message_count
            seconds = self._settings.resend_seconds * (_BUSY_FACTOR if waiting else 1)
            with transaction(self._engine) as session:
                if waiting and waiting >= reaping.unclaimed(session, task):
                    continue
                again = reaping.resend(session, task, seconds=seconds)
            if again:
                _log.warning("job messages sent again", task=task, subjects=again)

    def announce(self) -> None:
        """Tell Redis which searches have new events."""
        pipeline = self._redis.pipeline(transaction=False)
        for search_id in sorted(self._changed):
            pipeline.publish(events.CHANNEL, search_id)
        pipeline.execute()
        self._changed.clear()

    def purge_expired(self) -> None:
        """Remove workers that ended without a word, sessions that are over, and what is told long since."""
        with transaction(self._engine) as session:
            workers.purge_expired(session, _WORKER_RETENTION_SECONDS)
            sessions.purge_expired(session)
            audit.purge_expired(session, self._settings.audit_seconds)
            webhooks.purge_deliveries(session, _DELIVERED_SECONDS)
            tenants.purge_expired(session)

    def _listen(self, seconds: float) -> None:
        """Wait until there are new job messages or events, at most so long."""
        try:
            if self._listening is None:
                url = self._settings.sqlalchemy_url.replace("+psycopg", "", 1)
                self._listening = psycopg.connect(url, autocommit=True, connect_timeout=10)
                for channel in (outbox.NOTIFICATION, events.NOTIFICATION):
                    self._listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            for notice in self._listening.notifies(timeout=seconds, stop_after=1):
                if notice.channel == events.NOTIFICATION:
                    self._changed.add(notice.payload)
        except psycopg.OperationalError:
            # The chores say that PostgreSQL is away; here it is enough to wait for it.
            if self._listening is not None:
                self._listening.close()
                self._listening = None
            self._stopping.wait(seconds)


def main() -> int:
    settings = get_settings()
    configure_logging(settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    tracing.configure("relay", settings.otlp_url)
    Relay(settings, stopping).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
