"""The client of a service: `Client(url, key)`, with one attribute for each kind of resource."""

from __future__ import annotations

import os
from typing import Any, Self

from api.schemas.devices import Device, DeviceList
from api.schemas.health import Readiness
from api.schemas.methods import Method, MethodList
from paretofit.artifacts import Artifacts
from paretofit.datasets import Datasets
from paretofit.keys import Keys
from paretofit.points import Points
from paretofit.searches import Searches
from paretofit.transport import Transport
from paretofit.trials import Trials

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """A connection to a Paretofit service; close it, or use it as a context manager.

    `url` and `key` come from PARETOFIT_URL and PARETOFIT_KEY if they are not given. Requests are repeated with back-off
    for `patience` seconds while the service is away or busy; each answer may take `timeout` seconds. Methods raise
    `ApiError` for what the service refuses and `UnreachableError` when it does not answer.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, patience: float = 30.0, timeout: float = 60.0
    ) -> None:
        self._transport = Transport(
            url or os.environ.get("PARETOFIT_URL") or DEFAULT_URL,
            key or os.environ.get("PARETOFIT_KEY"),
            patience=patience,
            timeout=timeout,
        )
        self.datasets = Datasets(self._transport)
        self.searches = Searches(self._transport)
        self.trials = Trials(self._transport)
        self.points = Points(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.keys = Keys(self._transport)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._transport.url

    def methods(self) -> list[Method]:
        """The kinds of search that the service offers."""
        return MethodList.model_validate_json(self._transport.request("GET", "/v1/methods").content).data

    def method_schema(self, kind: str) -> dict[str, Any]:
        """The JSON schema of a method's parameters."""
        schema: dict[str, Any] = self._transport.request("GET", f"/v1/methods/{kind}/schema").json()
        return schema

    def devices(self) -> list[Device]:
        """What latencies can be measured on."""
        return DeviceList.model_validate_json(self._transport.request("GET", "/v1/devices").content).data

    def ready(self) -> Readiness:
        """Whether the service can work. Raises ApiError (503) while it cannot."""
        return Readiness.model_validate_json(self._transport.request("GET", "/readyz").content)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
