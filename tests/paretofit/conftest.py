from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from paretofit.client.client import Client
from tests.launch.service import Service
from tests.paretofit.proxy import Proxy
from tests.paretofit.stored import Stored, store


@pytest.fixture
def name() -> str:
    """A name that is unique in the service."""
    return f"n{uuid4().hex}"


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    with Proxy(service.url) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy: Proxy) -> Iterator[Client]:
    """A client that connects through the proxy."""
    with Client(proxy.url) as client:
        yield client


@pytest.fixture
def stored(service: Service, name: str) -> Stored:
    """A succeeded search."""
    return store(service, name=name)


@pytest.fixture
def large(service: Service, name: str) -> Stored:
    """A succeeded search with checkpoints of 3 MB."""
    return store(service, name=name, size=3_000_000)
