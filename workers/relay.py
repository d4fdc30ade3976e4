"""The relay, `python -m paretofit.workers.relay`: sends job messages, reclaims expired leases, resends lost messages
and publishes notifications of new events to Redis.

Several relays may run at once. Every task is retried for as long as PostgreSQL or Redis is unavailable.
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
_MAX_DELAY_SECONDS: Final = 5.0
_WORKER_RETENTION_SECONDS: Final = 24 * 3600.0
_DELIVERY_RETENTION_SECONDS: Final = 30 * 24 * 3600.0
_BUSY_FACTOR: Final = 20
_UNAVAILABLE: Final = (
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
    """A periodic task; after failures the delay until the next run doubles."""

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
        except _UNAVAILABLE as error:
            self.failures += 1
            delay = min(self.every + 0.1 * 2**self.failures, max(_MAX_DELAY_SECONDS, self.every))
            _log.warning("task_failed", task=self.name, error=str(error).strip(), retry_seconds=round(delay, 1))
        else:
            delay = self.every
            self.failures = 0
        self.due = time.monotonic() + delay


class Relay:
    """Runs the periodic tasks of a relay until `stopping` is set."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._engine: Engine = connect(
            settings.sqlalchemy_url, pool_size=2, application="relay", lock_seconds=_LOCK_SECONDS
        )
        self._redis = Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=5)
        self._listener: psycopg.Connection | None = None
        self._changed: set[str] = set()
        self._collector = Collector(settings)
        self._tasks = [
            _PeriodicTask("send", 0.0, self.send),
            _PeriodicTask("reap", settings.reap_seconds, self.reap),
            _PeriodicTask("enforce_limits", settings.reap_seconds, self.enforce_limits),
            _PeriodicTask("resend", settings.resend_seconds / 2, self.resend),
            _PeriodicTask("purge_expired", 3600.0, self.purge_expired),
            _PeriodicTask("collect_garbage", 3600.0, self._collector.start),
        ]
        self._notify = _PeriodicTask("notify", 0.0, self.notify)

    def run(self) -> None:
        """Run until `stopping` is set."""
        try:
            while not self._stopping.is_set():
                now = time.monotonic()
                for task in self._tasks:
                    task.run_if_due(now)
                self._listen(self._settings.relay_seconds)
                if self._changed:
                    self._notify.run_if_due(time.monotonic())
        finally:
            if self._listener is not None:
                self._listener.close()
            self._redis.close()
            self._engine.dispose()

    def send(self) -> None:
        """Publish the job messages that are due."""
        sent = _BATCH
        while sent == _BATCH:
            with transaction(self._engine) as session:
                sent = outbox.send_due(session, send, _BATCH)

    def reap(self) -> None:
        """Reclaim expired leases."""
        settings = self._settings
        reaped = reaping.reap(
            self._engine,
            lease_seconds=settings.lease_seconds,
            max_crashes=settings.max_crashes,
            back_off=settings.retry_seconds,
        )
        if reaped:
            _log.warning("leases_reclaimed", states=reaped)

    def enforce_limits(self) -> None:
        """Request planning of searches whose time limit has passed while their trials are queued."""
        with transaction(self._engine) as session:
            limits.enforce(session)

    def resend(self) -> None:
        """Resend lost job messages: soon if the queue is empty, later if a message may still be queued, and not at all
        while the queue holds at least as many messages as there are unclaimed jobs."""
        for task, queue in QUEUES.items():
            with app.connection_for_read() as connection:
                waiting = connection.default_channel.queue_declare(queue).message_count
            seconds = self._settings.resend_seconds * (_BUSY_FACTOR if waiting else 1)
            with transaction(self._engine) as session:
                if waiting and waiting >= reaping.unclaimed(session, task):
                    continue
                resent = reaping.resend(session, task, seconds=seconds)
            if resent:
                _log.warning("job_messages_resent", task=task, subjects=resent)

    def notify(self) -> None:
        """Publish the ids of searches with new events to Redis."""
        pipeline = self._redis.pipeline(transaction=False)
        for search_id in sorted(self._changed):
            pipeline.publish(events.CHANNEL, search_id)
        pipeline.execute()
        self._changed.clear()

    def purge_expired(self) -> None:
        """Delete dead workers, expired sessions, and old audit log entries, deliveries and usage records."""
        with transaction(self._engine) as session:
            workers.purge_expired(session, _WORKER_RETENTION_SECONDS)
            sessions.purge_expired(session)
            audit.purge_expired(session, self._settings.audit_seconds)
            webhooks.purge_deliveries(session, _DELIVERY_RETENTION_SECONDS)
            tenants.purge_expired(session)

    def _listen(self, seconds: float) -> None:
        """Wait at most `seconds` for new job messages or events."""
        try:
            if self._listener is None:
                url = self._settings.sqlalchemy_url.replace("+psycopg", "", 1)
                self._listener = psycopg.connect(url, autocommit=True, connect_timeout=10)
                for channel in (outbox.NOTIFICATION, events.NOTIFICATION):
                    self._listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            for notification in self._listener.notifies(timeout=seconds, stop_after=1):
                if notification.channel == events.NOTIFICATION:
                    self._changed.add(notification.payload)
        except psycopg.OperationalError:
            # The periodic tasks log that PostgreSQL is unavailable; here it is enough to wait.
            if self._listener is not None:
                self._listener.close()
                self._listener = None
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
