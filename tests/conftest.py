"""Real servers for the tests: one PostgreSQL and one Redis per session, and one database per test.

The first test that needs the servers starts them for all processes of the session. At the end no process that the
session started may still run.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql
from redis import Redis
from sqlalchemy import Engine

from paretofit.db import migrate
from paretofit.db.engine import connect
from paretofit.launch.devices import cuda_devices
from paretofit.search import registry
from tests.launch.service import Service
from tests.servers import Servers

# All descendants of this session inherit this variable, even after they are reparented.
MARK = "PARETOFIT_TEST_SESSION"
TEMPLATE = "template_migrated"

for name in [name for name in os.environ if name.startswith("PARETOFIT_") and name != MARK]:
    del os.environ[name]
os.environ.pop("DATABASE_URL", None)
os.environ.pop("REDIS_URL", None)
# Tests run in parallel: OpenMP threads that spin while another process has their core make both many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

registry.setup()

LEFTOVERS = pytest.StashKey[list[str]]()
SERVERS = pytest.StashKey[Servers]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        folder, owner = config.workerinput["servers"]
        config.stash[SERVERS] = Servers(Path(folder), owner)
    else:
        os.environ[MARK] = secrets.token_hex(8)
        config.stash[SERVERS] = Servers.new()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by xdist's controller for each worker that it is about to start."""
    servers = node.config.stash[SERVERS]
    node.workerinput["servers"] = (str(servers.folder), servers.owner)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start tests with their own time limit first: they take longest, so that no process ends long after the others."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and _no_gpu():
        pytest.skip("no CUDA device is available")
    if item.get_closest_marker("docker") is not None and _no_docker():
        pytest.skip("Docker with Compose is not available")


@cache
def _no_gpu() -> bool:
    return cuda_devices() == 0


@cache
def _no_docker() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return True
    checks = (subprocess.run([docker, *words], capture_output=True) for words in (("info",), ("compose", "version")))
    return any(done.returncode for done in checks)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return
    session.config.stash[SERVERS].stop()
    left = _left_behind(stop_timeout=10.0)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        # Not raised, so that pytest still reports the failures.
        session.config.stash[LEFTOVERS] = left


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(LEFTOVERS, []):
        terminalreporter.write_line(f"left behind by the tests: {line}", red=True)


def _left_behind(stop_timeout: float) -> list[str]:
    """Processes of this session other than this one that do not end within `stop_timeout` seconds."""
    mark, own = os.environ[MARK], os.getpid()
    deadline = time.monotonic() + stop_timeout
    while True:
        running = []
        for process in psutil.process_iter():
            try:
                if process.pid != own and process.environ().get(MARK) == mark:
                    running.append(f"{process.pid} {' '.join(process.cmdline())}")
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.1)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    running = request.config.stash[SERVERS]
    running.start()
    return running


def _url_of_database(url: str, database: str) -> str:
    """The URL of another database of the same server."""
    before, _, query = url.partition("?")
    return f"{before.rpartition('/')[0]}/{database}?{query}"


def _sqlalchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a migrated database without connections, which the first process that needs it creates."""
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone() is None:
            incomplete = f"{TEMPLATE}_growing"
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(incomplete)))
            migrate.upgrade(_sqlalchemy(_url_of_database(servers.postgres_url, incomplete)))
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(incomplete), sql.Identifier(TEMPLATE))
            )
    return TEMPLATE


@contextmanager
def _database(servers: Servers, template: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        try:
            yield _url_of_database(servers.postgres_url, name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """postgresql+psycopg://... of a fresh migrated database, dropped after the test."""
    with _database(servers, template) as url:
        yield _sqlalchemy(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """SQLAlchemy's engine on `database_url`."""
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def redis_url(servers: Servers, worker_id: str) -> Iterator[str]:
    """redis://... of an empty logical database that no other test uses at the same time. Channels are shared."""
    number = 1 + int(worker_id.removeprefix("gw")) if worker_id != "master" else 0
    url = f"{servers.redis_url.rpartition('/')[0]}/{number}"
    with Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with its own home: `.url`, `.home`, `.database_url`, `.redis_url`, `.stop()`."""
    with Service.start(tmp_path_factory.mktemp("home")) as running:
        yield running
