"""How pages answer: as HTML, their errors too."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.pages.rendering import page
from api.problems import InvalidError, ProblemError, UnavailableError


class PageRoute(APIRoute):
    """A route whose problems are pages that say what to do next."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ProblemError as problem:
                return _shown(problem)
            except RequestValidationError as error:
                places = ", ".join(str(found["loc"][-1]) for found in error.errors())
                return _shown(InvalidError(f"the address has no good value for {places}"))
            except (OperationalError, PoolTimeoutError):
                return _shown(UnavailableError("the database does not answer: reload the page in a moment"))

        return handled


def router() -> APIRouter:
    """An empty router for pages."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def following(request: Request, cursor: str | None) -> str | None:
    """Where the next page of a list is, relative to this one; None if there is none."""
    return None if cursor is None else f"?{request.url.include_query_params(cursor=cursor).query}"


def _shown(problem: ProblemError) -> Response:
    return page("error.html", problem.status, problem=problem, here="")
