"""Request security: allowed hosts, cross-origin requests and authentication."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from paretofit.api import access, problems
from paretofit.api.binding import is_loopback
from paretofit.api.principal import Authenticator, Principal
from paretofit.api.problems import ProblemApp, ProblemError
from paretofit.api.rates import Rates
from paretofit.core.settings import Settings


def caller(request: Request) -> Principal:
    """The authenticated caller."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


def tenant(principal: Annotated[Principal, Depends(caller)]) -> str:
    """The tenant whose rows a request may see."""
    return principal.tenant


Caller = Annotated[Principal, Depends(caller)]
Tenant = Annotated[str, Depends(tenant)]


class Guard:
    """Rejects requests before their body is read. (Scopes are checked once a route has matched.)

    Without a bootstrap key the service accepts only loopback host names, which prevents DNS rebinding. With one, every
    `/v1` route requires a key or a session; the route declares the scope (`paretofit.api.access`). Mutating requests
    from pages of other origins are rejected.
    """

    def __init__(self, app: ASGIApp, settings: Settings, authenticate: Authenticator, rates: Rates) -> None:
        self._app = app
        self._hosts = Hosts(settings)
        self._authenticate = authenticate
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                await self._admit(scope, Headers(scope=scope))
            except ProblemError as problem:
                app = ProblemApp(problem)
        await app(scope, receive, send)

    async def _admit(self, scope: Scope, headers: Headers) -> None:
        """Store the caller in the state of the request. Raises ProblemError."""
        method, path = scope["method"], scope["path"]
        self._hosts.check(headers)
        if method not in access.SAFE:
            _check_origin(headers)
        if "\0" in path:
            raise problems.NotFoundError("the path contains a NUL character: remove it")
        if not access.requires_auth(path):
            return
        principal = await run_in_threadpool(self._who, scope, headers)
        if principal.by_cookie and method not in access.SAFE and not _of_the_same_origin(headers):
            raise problems.CrossOriginError(
                "a session allows changes only from the service's own pages: use an API key"
            )

    def _who(self, scope: Scope, headers: Headers) -> Principal:
        try:
            principal = self._authenticate(headers)
        except problems.UnauthorizedError:
            # A valid key is accepted whatever others at the same address send.
            self._rates.refuse((scope.get("client") or ("",))[0])
            raise
        except (OperationalError, PoolTimeoutError) as error:
            raise problems.database_away() from error
        scope["state"]["principal"] = principal
        self._rates.admit(principal)
        return principal


class Hosts:
    """The host names that the service accepts."""

    def __init__(self, settings: Settings) -> None:
        self._open = settings.bootstrap_key is None
        self._local = is_loopback(settings.host)
        self._names = frozenset(name.lower() for name in settings.allowed_hosts)

    def check(self, headers: Headers) -> None:
        """Raises MisdirectedError."""
        host = host_name(headers.get("host", ""))
        if is_loopback(host):
            return
        if self._open:
            raise problems.MisdirectedError("the service accepts only loopback host names: use 127.0.0.1")
        # An IP address cannot be rebound by DNS.
        if host not in self._names and (self._local or not _is_address(host)):
            raise problems.MisdirectedError(
                "the service does not accept this host name: use its IP address, or add the name to "
                "PARETOFIT_ALLOWED_HOSTS"
            )


def _check_origin(headers: Headers) -> None:
    """Raises CrossOriginError for requests from pages of other origins. Programs do not send these headers."""
    site = headers.get("sec-fetch-site", "none").lower()
    origin = headers.get("origin")
    if site not in {"same-origin", "none"} or (origin is not None and not _is_own(origin, headers)):
        raise problems.CrossOriginError(
            "a page of another origin cannot change anything here: use an API key outside of a browser"
        )


def _of_the_same_origin(headers: Headers) -> bool:
    return "origin" in headers or headers.get("sec-fetch-site", "").lower() == "same-origin"


def _is_own(origin: str, headers: Headers) -> bool:
    try:
        given = urlsplit(origin)
    except ValueError:
        return False
    return given.scheme in {"http", "https"} and given.netloc.lower() == headers.get("host", "").lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_name(header: str) -> str:
    """The name or address in a Host header, without the port; empty if it is invalid."""
    name, port = header.lower(), ""
    if ":" in name and not name.endswith("]"):
        name, _, port = name.rpartition(":")
    if port and not port.isdecimal():
        return ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
