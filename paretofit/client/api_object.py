"""Documents of the service that can be asked for more: each remembers whose answer it is part of."""

from __future__ import annotations

from typing import Any, Generic

from pydantic import BaseModel, ConfigDict, PrivateAttr

from paretofit.client.calling import HasTransport, M, listing, method
from paretofit.client.transport import Transport


class Bound(BaseModel, HasTransport[M], Generic[M]):
    """A document that `Transport.read` gave."""

    model_config = ConfigDict(ignored_types=(method, listing), extra="ignore", frozen=True)

    _transport: M = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        if not isinstance(context, Transport):
            raise TypeError(f"a {type(self).__name__} comes from a service: ask a client for it")
        self._transport = context  # type: ignore[assignment]  # `read` is called by what speaks in the same manner

    def transport(self) -> M:
        return self._transport


class Resource(HasTransport[M]):
    """One kind of resource of a service: an attribute of its client."""

    def __init__(self, transport: M) -> None:
        self._transport = transport

    def transport(self) -> M:
        return self._transport
