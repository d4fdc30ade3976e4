"""Base classes of the client: API documents with methods, and the resources of a client."""

from __future__ import annotations

from typing import Any, Generic

from pydantic import BaseModel, ConfigDict, PrivateAttr

from paretofit.client.calling import HasTransport, M, listing, method
from paretofit.client.transport import Transport


class ApiObject(BaseModel, HasTransport[M], Generic[M]):
    """A document returned by `Transport.read`. It keeps the transport, so its methods can send requests."""

    model_config = ConfigDict(ignored_types=(method, listing), extra="ignore", frozen=True)

    _transport: M = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        if not isinstance(context, Transport):
            raise TypeError(f"{type(self).__name__} cannot be created directly; get it from a client")
        self._transport = context  # type: ignore[assignment]  # `read` passes a transport of the same type

    def transport(self) -> M:
        return self._transport


class Resource(HasTransport[M]):
    """One kind of resource, as an attribute of a client."""

    def __init__(self, transport: M) -> None:
        self._transport = transport

    def transport(self) -> M:
        return self._transport
