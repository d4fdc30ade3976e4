"""Who is let in: the hosts that this service answers for, where a request comes from, its key and what that allows."""

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
    """Whom the request comes from."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


def tenant(principal: Annotated[Principal, Depends(caller)]) -> str:
    """Whose rows a request may see."""
    return principal.tenant


Caller = Annotated[Principal, Depends(caller)]
Tenant = Annotated[str, Depends(tenant)]


class Guard:
    """Refuses what is not for this service, before anything of it is read. (Scopes are checked once a route has
    matched.)

    Without a bootstrap key it answers for loopback's own names only, so that no web page reaches it under a name that
    was made to resolve there. With one, every `/v1` route needs a key or a session; the route declares with which scope
    (`paretofit.api.access`). No page of another origin changes anything.
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
        """Puts the request's principal into its state. Raises ProblemError."""
        method, path = scope["method"], scope["path"]
        self._hosts.check(headers)
        if method not in access.SAFE:
            _check_origin(headers)
        if "\0" in path:
            raise problems.NotFoundError("no resource has a NUL in its name")
        if not access.requires_auth(path):
            return
        principal = await run_in_threadpool(self._who, scope, headers)
        if principal.by_cookie and method not in access.SAFE and not _of_the_same_origin(headers):
            raise problems.CrossOriginError("a session changes things from the service's own pages only: use a key")

    def _who(self, scope: Scope, headers: Headers) -> Principal:
        try:
            principal = self._authenticate(headers)
        except problems.UnauthorizedError:
            # Who has a good key is let in whatever others at the same address send.
            self._rates.refuse((scope.get("client") or ("",))[0])
            raise
        except (OperationalError, PoolTimeoutError) as error:
            raise problems.database_away() from error
        scope["state"]["principal"] = principal
        self._rates.admit(principal)
        return principal


class Hosts:
    """The names that this service answers for."""

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
            raise problems.MisdirectedError("this service listens on loopback only: use its address 127.0.0.1")
        # No name resolves to a plain address but itself.
        if host not in self._names and (self._local or not _is_address(host)):
            raise problems.MisdirectedError(
                "this service does not answer for that name: use its address, or add the name to "
                "PARETOFIT_ALLOWED_HOSTS"
            )


def _check_origin(headers: Headers) -> None:
    """Raises CrossOriginError for what a page of another origin sends. Programs say nothing of the kind."""
    site = headers.get("sec-fetch-site", "none").lower()
    origin = headers.get("origin")
    if site not in {"same-origin", "none"} or (origin is not None and not _is_own(origin, headers)):
        raise problems.CrossOriginError("a page of another origin may not change anything here: use a key and no page")


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
    """The name or address in a Host header, without its port; empty if there is none that can be."""
    name, port = header.lower(), ""
    if ":" in name and not name.endswith("]"):
        name, _, port = name.rpartition(":")
    if port and not port.isdecimal():
        return ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
