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
"""Safe methods (RFC 9110)."""


def requires(*scopes: Scope) -> Any:
    """A dependency of a route: the caller must have these scopes. Without scopes, any valid key may call the route."""
    return Security(_authorize, scopes=scopes)


def requires_auth(path: str) -> bool:
    """Whether a path requires a key if authentication is enabled."""
    return path == "/v1" or path.startswith("/v1/") or path == "/metrics"


def required_scopes(route: RouteContext) -> list[str]:
    """The scopes that a route declares with `requires`. Raises LookupError if it declares none."""
    for dependency in route.dependencies:
        if dependency.dependency is _authorize:
            return list(dependency.scopes)
    raise LookupError(f"{route.path} declares no scope: add dependencies=[requires(...)]")


def forbidden(request: Request) -> ForbiddenError | None:
    """The problem if the caller lacks a scope of the matched route, else None. For requests with an invalid body, which
    FastAPI rejects before it runs the dependencies of the route."""
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
                f"the key lacks the scope {scope!r}: use a key that has it",
                needed=scope,
                scopes=sorted(principal.scopes),
            )
    return None
