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
from api.problems import InvalidError, ProblemError, UnauthorizedError, UnavailableError


class PageRoute(APIRoute):
    """A route whose problems are pages that say what to do next."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except UnauthorizedError as problem:
                return _sign_in(request, problem)
            except ProblemError as problem:
                return _shown(request, problem)
            except RequestValidationError as error:
                places = ", ".join(str(found["loc"][-1]) for found in error.errors())
                return _shown(request, InvalidError(f"the address has no good value for {places}"))
            except (OperationalError, PoolTimeoutError):
                return _shown(request, UnavailableError("the database does not answer: reload the page in a moment"))

        return handled


def router() -> APIRouter:
    """An empty router for pages."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def following(request: Request, cursor: str | None) -> str | None:
    """Where the next page of a list is, relative to this one; None if there is none."""
    return None if cursor is None else f"?{request.url.include_query_params(cursor=cursor).query}"


def _sign_in(request: Request, problem: UnauthorizedError) -> Response:
    # Whoever follows a link of another site comes without the cookie, signed in or not.
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    answer = page("sign_in.html", problem.status, here="", visitor=None, elsewhere=elsewhere)
    answer.headers.update(problem.headers)
    return answer


def _shown(request: Request, problem: ProblemError) -> Response:
    # Nobody, if the database was away when it was asked who this is.
    visitor = getattr(request.state, "principal", None)
    answer = page("error.html", problem.status, problem=problem, here="", visitor=visitor)
    answer.headers.update(problem.headers)
    return answer
