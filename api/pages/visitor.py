"""Who looks at the dashboard. Every page asks here, and only here."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from api.problems import UnauthorizedError
from api.security import tenant
from api.services import Service


def visitor(service: Service) -> str:
    """Whose rows a page may show. Raises UnauthorizedError: browsers send no key, so where one is needed no page is
    shown."""
    if service.settings.bootstrap_key is not None:
        raise UnauthorizedError("this service needs an API key: use the command line or a client with yours")
    return tenant()


Visitor = Annotated[str, Depends(visitor)]
