from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from paretofit.db.engine import connect
from tests.servers import Servers
from tests.workers.fleet import Fleet

FIRST_REDIS_DATABASE = 100


@pytest.fixture(scope="module")
def server_urls(servers: Servers, template: str, worker_id: str) -> Iterator[tuple[str, str]]:
    """The URLs of a PostgreSQL database and a Redis database for the tests of a module."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        url = make_url(servers.postgres_url).set(drivername="postgresql+psycopg", database=name)
        number = FIRST_REDIS_DATABASE + (0 if worker_id == "master" else int(worker_id.removeprefix("gw")))
        redis_url = f"{servers.redis_url.rpartition('/')[0]}/{number}"
        yield url.render_as_string(hide_password=False), redis_url
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def empty_fleet(server_urls: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet without processes."""
    engine = connect(server_urls[0])
    with Fleet(engine, *server_urls, tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet
    engine.dispose()


@pytest.fixture(scope="module")
def shared_fleet(server_urls: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A relay and a light worker."""
    engine = connect(server_urls[0])
    with Fleet(engine, *server_urls, tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.start("paretofit.workers.relay")
        fleet.start("paretofit.workers", "light", "--processes", "1")
        yield fleet
    engine.dispose()


@pytest.fixture(scope="module")
def fleet(shared_fleet: Fleet) -> Fleet:
    """A relay, a light worker and one train worker, for tests that do not kill them."""
    shared_fleet.start_trainer()
    return shared_fleet


@pytest.fixture
def disposable_fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """A relay, a light worker and a train worker that the test may kill."""
    shared_fleet.start_trainer()
    yield shared_fleet
    shared_fleet.kill_trainers()
