"""Authentication of the dashboard's pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from paretofit.api.principal import Principal
from paretofit.api.problems import ForbiddenError
from paretofit.api.schemas.access import Scope
from paretofit.api.services import Service


def _allowed(scope: Scope) -> Callable[[Request, Service], Principal]:
    def visitor(request: Request, service: Service) -> Principal:
        """Raises UnauthorizedError, ForbiddenError, TooManyRequestsError."""
        # API keys are ignored here: failed attempts are counted where keys are accepted.
        principal = service.authenticate.by_cookie(request.headers)
        request.state.principal = principal
        service.rates.admit(principal)
        if scope not in principal.scopes:
            raise ForbiddenError(f"your key lacks the scope {scope!r}: sign in with a key that has it")
        return principal

    return visitor


Visitor = Annotated[Principal, Depends(_allowed("read"))]
Manager = Annotated[Principal, Depends(_allowed("manage"))]
