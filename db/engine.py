"""Connections to PostgreSQL: synchronous sessions of one short transaction each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection, QueuePool


def connect(
    url: str,
    *,
    pool_size: int = 5,
    application: str = "paretofit",
    idle_seconds: float = 60,
    lock_seconds: float | None = None,
    on_wait: Callable[[float], None] = lambda _: None,
) -> Engine:
    """An engine for `url` (postgresql+psycopg://...). Connections are tested at checkout, so it survives a restart of
    the server.

    The server rolls back a transaction that is idle for `idle_seconds`, so that a suspended process does not keep its
    locks. A statement waits at most `lock_seconds` for a lock (unset: indefinitely). `on_wait` is called with the
    seconds of each wait for a connection.
    """

    class Pool(QueuePool):
        def connect(self) -> PoolProxiedConnection:
            began = perf_counter()
            try:
                return super().connect()
            finally:
                on_wait(perf_counter() - began)

    settings = {"idle_in_transaction_session_timeout": idle_seconds, "lock_timeout": lock_seconds or 0}
    return create_engine(
        url,
        poolclass=Pool,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        # Errors are logged, and values may be secret.
        hide_parameters=True,
        connect_args={
            "application_name": application,
            "connect_timeout": 10,
            "options": " ".join(f"-c {name}={seconds * 1000:.0f}" for name, seconds in settings.items()),
        },
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session that is committed at the end of the block, or rolled back if the block raises."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
