"""Authorization: every route of the API declares the scope that its caller needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastapi import Request, Security
from fastapi.routing import APIRoute, RouteContext
from fastapi.security import SecurityScopes

from paretofit.api.principal import Principal
from paretofit.api.problems import ForbiddenError
from paretofit.api.schemas.access import Scope

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


def requires(*scopes: Scope) -> Any:
    """A route's dependency: its caller needs these scopes; without any, every caller with a valid key may call it."""
    return Security(_authorize, scopes=scopes)


def requires_auth(path: str) -> bool:
    """Whether a request needs a key, where keys are needed at all."""
    return path == "/v1" or path.startswith("/v1/") or path == "/metrics"


def required_scopes(route: RouteContext) -> list[str]:
    """What a route declares by `requires`. Raises LookupError if it declares nothing."""
    for dependency in route.dependencies:
        if dependency.dependency is _authorize:
            return list(dependency.scopes)
    raise LookupError(f"{route.path} declares no scope: add dependencies=[requires(...)]")


def forbidden(request: Request) -> ForbiddenError | None:
    """Why the caller may not call the route that matched; None if it may. For a request whose body cannot be parsed:
    FastAPI finds that before it runs the route's dependencies."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not requires_auth(request.url.path):
        return None
    return _forbidden(request, required_scopes(RouteContext(route)))


async def _authorize(request: Request, required: SecurityScopes) -> None:
    """Raises ForbiddenError."""
    if (problem := _forbidden(request, required.scopes)) is not None:
        raise problem


def _forbidden(request: Request, scopes: Iterable[str]) -> ForbiddenError | None:
    principal: Principal = request.scope["state"]["principal"]
    for scope in scopes:
        if scope not in principal.scopes:
            return ForbiddenError(
                f"this needs a key with the scope {scope!r}", needed=scope, scopes=sorted(principal.scopes)
            )
    return None
