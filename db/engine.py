"""Sessions with PostgreSQL: synchronous, short, one transaction each; nobody commits in the middle."""

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
    waited: Callable[[float], None] = lambda _: None,
) -> Engine:
    """An engine on `url` (postgresql+psycopg://...). Connections are checked when taken, so a server restart heals.

    A transaction in which nothing happens for `idle_seconds` is rolled back by the server: a process that is stopped
    in the middle of one must not keep its locks. A statement waits at most `lock_seconds` for a lock (unset: for ever).
    `waited` is told how many seconds each wait for a connection took.
    """

    class Pool(QueuePool):
        def connect(self) -> PoolProxiedConnection:
            began = perf_counter()
            try:
                return super().connect()
            finally:
                waited(perf_counter() - began)

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
    """A session whose work is committed as a whole at the end of the block, or rolled back if it raises."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
