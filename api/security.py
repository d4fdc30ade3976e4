"""Who is let in: the bootstrap key, the hosts that this service answers for, and the tenant of a request."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.binding import is_loopback
from api.problems import MisdirectedError, NotFoundError, ProblemApp, UnauthorizedError
from db.tables import DEFAULT_TENANT
from settings import Settings


def tenant() -> str:
    """Whose rows a request may see."""
    return DEFAULT_TENANT


Tenant = Annotated[str, Depends(tenant)]


class Guard:
    """Refuses what is not for this service, before anything of it is read.

    Bound to loopback it answers for loopback's own names only, so that no web page reaches it under a name that was
    made to resolve there. With a bootstrap key every `/v1` route needs it.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._local = is_loopback(settings.host)
        self._key = None if settings.bootstrap_key is None else _digest(settings.bootstrap_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if self._local and not is_loopback(_host(headers.get("host", ""))):
                app = ProblemApp(MisdirectedError("this service listens on loopback only: use its address 127.0.0.1"))
            elif "\0" in scope["path"]:
                app = ProblemApp(NotFoundError("no resource has a NUL in its name"))
            elif self._key is not None and scope["path"].startswith("/v1/") and not self._admits(headers):
                app = ProblemApp(
                    UnauthorizedError(
                        "send the key as `Authorization: Bearer KEY`", headers={"WWW-Authenticate": "Bearer"}
                    )
                )
        await app(scope, receive, send)

    def _admits(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return (
            self._key is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(_digest(SecretStr(given.strip())), self._key)
        )


def _digest(key: SecretStr) -> bytes:
    return hashlib.sha256(key.get_secret_value().encode()).digest()


def _host(header: str) -> str:
    """The name or address in a Host header, without its port."""
    name, port = header.lower(), ""
    if ":" in name and not name.endswith("]"):
        name, _, port = name.rpartition(":")
    if port and not port.isdecimal():
        return ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
