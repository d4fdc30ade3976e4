"""The clients `Client(url, key)` and `AsyncClient(url, key)`, with one attribute per kind of resource."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from paretofit.api.schemas.devices import Device, DeviceList
from paretofit.api.schemas.exports import Format
from paretofit.api.schemas.health import Readiness
from paretofit.api.schemas.methods import Family, FamilyList, Method, MethodList
from paretofit.api.schemas.workers import Worker, WorkerList
from paretofit.client import fit
from paretofit.client.api_object import Resource
from paretofit.client.artifacts import Artifacts
from paretofit.client.calling import M, method
from paretofit.client.datasets import Datasets
from paretofit.client.fit import Budget, Fit
from paretofit.client.keys import Keys
from paretofit.client.points import Points
from paretofit.client.searches import Searches
from paretofit.client.transports import AsyncTransport, SyncTransport
from paretofit.client.trials import Trials
from paretofit.client.weights import Weights

DEFAULT_URL = "http://127.0.0.1:8000"


class Service(Resource[M]):
    """The common base of both clients.

    Methods raise `ApiError` if the service rejects a request and `UnreachableError` if it does not respond.
    """

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
        """The URL of the service."""
        return self._transport.url

    @method
    async def methods(self) -> list[Method]:
        """List the search methods."""
        return (await self._transport.read(MethodList, "/v1/methods")).data

    @method
    async def method_schema(self, kind: str) -> dict[str, Any]:
        """The JSON schema of the parameters of the method `kind`, such as `mutualnet`."""
        schema: dict[str, Any] = (await self._transport.request("GET", f"/v1/methods/{kind}/schema")).json()
        return schema

    @method
    async def families(self) -> list[Family]:
        """List the network families that methods search in."""
        return (await self._transport.read(FamilyList, "/v1/families")).data

    @method
    async def devices(self) -> list[Device]:
        """List the devices that can measure latency."""
        return (await self._transport.read(DeviceList, "/v1/devices")).data

    @method
    async def workers(self) -> list[Worker]:
        """List the workers that reported within the last day."""
        return (await self._transport.read(WorkerList, "/v1/workers")).data

    @method
    async def fit(
        self,
        photos: str | Path,
        *,
        name: str | None = None,
        max_macs: float | None = None,
        max_params: float | None = None,
        max_latency_ms: float | None = None,
        device: str | None = None,
        seconds: float | None = None,
        out: str | Path = "fit",
        formats: Sequence[Format] | None = None,
    ) -> Fit[M]:
        """Find the most accurate network for your photos within a budget, and write its files.

        Args:
            photos: An archive, or a folder with one folder of images for each class.
            name: Name of the dataset and the search; default: that of `photos`.
            max_macs: Multiply-accumulates per image.
            max_params: Number of parameters.
            max_latency_ms: Median latency at batch size 1 on `device`, in milliseconds.
            device: The device of the latency, such as `onnxruntime-cpu-1t`.
            seconds: Time limit of the search; None: as long as the method needs.
            out: Folder for the checkpoint, the card and the exports.
            formats: Formats to export to; default: that of the device's runtime, else ONNX.

        Returns:
            The search, the selected point and the files.

        Raises:
            UsageError: `photos` does not exist or is empty.
            DatasetRejectedError: The photos cannot be used.
            ApiError: No network can meet the budget (`infeasible`), or none met it (409).
        """
        began = time.monotonic()
        budget = Budget(max_macs, max_params, max_latency_ms, device)
        source = Path(photos).expanduser()
        named = name or fit.name_of(source)
        dataset = await fit.add_dataset(self._transport, source, named)
        start, _ = await fit.find_start(self._transport, dataset)
        submitted = await fit.submit(self._transport, dataset, start, budget, name=named, seconds=seconds)
        await Searches.wait(self.searches, submitted.id)
        chosen = budget.formats if formats is None else formats
        return await fit.collect(self._transport, submitted.id, budget, Path(out), chosen, began=began)

    @method
    async def ready(self) -> Readiness:
        """Check whether the service is ready. Raises ApiError (503) if it is not."""
        return await self._transport.read(Readiness, "/readyz")


class Client(Service[SyncTransport]):
    """A synchronous client of a Paretofit service. Close it, or use it as a context manager.

    Args:
        url: URL of the service; default: the variable PARETOFIT_URL, else http://127.0.0.1:8000.
        key: API key; default: the variable PARETOFIT_KEY.
        retry_timeout: Seconds for which failed requests are retried with backoff while the service is down or busy.
        timeout: Seconds to wait for each response.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, retry_timeout: float = 30.0, timeout: float = 60.0
    ) -> None:
        super().__init__(SyncTransport(*_connection(url, key), retry_timeout=retry_timeout, timeout=timeout))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Service[AsyncTransport]):
    """`Client` for asyncio, with the same arguments.

    Its methods and those of the objects it returns are coroutines; iterate over lists with `async for`.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, retry_timeout: float = 30.0, timeout: float = 60.0
    ) -> None:
        super().__init__(AsyncTransport(*_connection(url, key), retry_timeout=retry_timeout, timeout=timeout))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _connection(url: str | None, key: str | None) -> tuple[str, str | None]:
    return url or os.environ.get("PARETOFIT_URL") or DEFAULT_URL, key or os.environ.get("PARETOFIT_KEY")
