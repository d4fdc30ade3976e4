"""Who looks at the dashboard. Every page asks here, and only here."""

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
        # A key that is sent counts for nothing here: guesses are counted where keys are taken.
        principal = service.authenticate.by_cookie(request.headers)
        request.state.principal = principal
        service.rates.admit(principal)
        if scope not in principal.scopes:
            raise ForbiddenError(f"this page needs a key with the scope {scope!r}: sign out, then in with another key")
        return principal

    return visitor


Visitor = Annotated[Principal, Depends(_allowed("read"))]
Manager = Annotated[Principal, Depends(_allowed("manage"))]
