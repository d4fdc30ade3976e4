"""The clients of a service: `Client(url, key)` and `AsyncClient(url, key)`, with one attribute for each kind of
resource."""

from __future__ import annotations

import os
from typing import Any, Self

from paretofit.api.schemas.devices import Device, DeviceList
from paretofit.api.schemas.health import Readiness
from paretofit.api.schemas.methods import Family, FamilyList, Method, MethodList
from paretofit.api.schemas.workers import Worker, WorkerList
from paretofit.client.api_object import Resource
from paretofit.client.artifacts import Artifacts
from paretofit.client.calling import M, method
from paretofit.client.datasets import Datasets
from paretofit.client.keys import Keys
from paretofit.client.points import Points
from paretofit.client.searches import Searches
from paretofit.client.transports import AsyncTransport, SyncTransport
from paretofit.client.trials import Trials
from paretofit.client.weights import Weights

DEFAULT_URL = "http://127.0.0.1:8000"


class Service(Resource[M]):
    """What both clients offer. Methods raise `ApiError` for what the service refuses and `UnreachableError` when it
    does not answer."""

    def __init__(self, transport: M) -> None:
        super().__init__(transport)
        self.datasets = Datasets(transport)
        self.weights = Weights(transport)
        self.searches = Searches(transport)
        self.trials = Trials(transport)
        self.points = Points(transport)
        self.artifacts = Artifacts(transport)
        self.keys = Keys(transport)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._transport.url

    @method
    async def methods(self) -> list[Method]:
        """The kinds of search that the service offers."""
        return (await self._transport.read(MethodList, "/v1/methods")).data

    @method
    async def method_schema(self, kind: str) -> dict[str, Any]:
        """The JSON schema of a method's parameters."""
        schema: dict[str, Any] = (await self._transport.request("GET", f"/v1/methods/{kind}/schema")).json()
        return schema

    @method
    async def families(self) -> list[Family]:
        """The networks that methods build on."""
        return (await self._transport.read(FamilyList, "/v1/families")).data

    @method
    async def devices(self) -> list[Device]:
        """What latencies can be measured on."""
        return (await self._transport.read(DeviceList, "/v1/devices")).data

    @method
    async def workers(self) -> list[Worker]:
        """The processes that do the work, heard of within a day."""
        return (await self._transport.read(WorkerList, "/v1/workers")).data

    @method
    async def ready(self) -> Readiness:
        """Whether the service can work. Raises ApiError (503) while it cannot."""
        return await self._transport.read(Readiness, "/readyz")


class Client(Service[SyncTransport]):
    """A connection to a Paretofit service; close it, or use it as a context manager.

    `url` and `key` come from PARETOFIT_URL and PARETOFIT_KEY if they are not given. Requests are repeated with back-off
    for `retry_timeout` seconds while the service is away or busy; each answer may take `timeout` seconds.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, retry_timeout: float = 30.0, timeout: float = 60.0
    ) -> None:
        super().__init__(SyncTransport(*_place(url, key), retry_timeout=retry_timeout, timeout=timeout))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Service[AsyncTransport]):
    """`Client` for asyncio: its methods are awaited, its lists are iterated over by `async for`, and so are those
    of what it returns."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, retry_timeout: float = 30.0, timeout: float = 60.0
    ) -> None:
        super().__init__(AsyncTransport(*_place(url, key), retry_timeout=retry_timeout, timeout=timeout))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _place(url: str | None, key: str | None) -> tuple[str, str | None]:
    return url or os.environ.get("PARETOFIT_URL") or DEFAULT_URL, key or os.environ.get("PARETOFIT_KEY")
