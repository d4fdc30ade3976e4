"""One API and database that all tests share unless they start their own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine

from paretofit.db.engine import connect
from tests.api.keys import KeyedApi, keyed_api
from tests.api.process import Api, running
from tests.conftest import _database, _sqlalchemy
from tests.servers import Servers

MAX_UPLOAD_BYTES = 300_000
MAX_EVENT_STREAMS = 8
KEYED = {
    "PARETOFIT_REQUESTS_PER_SECOND": "0",
    "PARETOFIT_MAX_EVENT_STREAMS": str(MAX_EVENT_STREAMS),
    "PARETOFIT_S3_SOURCES": "s3://imports/{tenant},s3://shared/open/",
    "PARETOFIT_WEIGHTS_SOURCES": "mobilenet_v2",
}


@pytest.fixture(scope="session")
def api(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API with a small upload limit."""
    home = tmp_path_factory.mktemp("api")
    with (
        _database(servers, template) as url,
        running(home, _sqlalchemy(url), servers.redis_url, PARETOFIT_MAX_UPLOAD_BYTES=str(MAX_UPLOAD_BYTES)) as process,
    ):
        yield process


@pytest.fixture(scope="session")
def http(api: Api) -> httpx.Client:
    """A client of `api`."""
    return api.http


@pytest.fixture(scope="session")
def stored(api: Api) -> Iterator[Engine]:
    """The database of `api`, for rows that workers would write."""
    engine = connect(api.database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def keyed(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    """A running API that requires a key."""
    home = tmp_path_factory.mktemp("keyed")
    with (
        _database(servers, template) as url,
        keyed_api(home, _sqlalchemy(url), servers.redis_url, **KEYED) as service,
    ):
        yield service
