"""How pages answer: as HTML, their errors too, and packed where the browser takes that.

Lengths of packed pages tell a secret to whoever has a signed-in browser ask for one that repeats his guesses (BREACH,
breachattack.com). No page repeats its address beside a secret: keys are in answers of the API, which is not packed,
tokens against forgery there are none; and what other sites ask for comes without the session (SameSite=Strict).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.concurrency import run_in_threadpool

from paretofit.api.pages.rendering import page
from paretofit.api.problems import InvalidError, ProblemError, UnauthorizedError, UnavailableError

_PACKED: Final = frozenset({"text/html", "image/svg+xml"})
_LEAST: Final = 1000
"""Bytes from which it is worth it."""
_LEVEL: Final = 4


class PageRoute(APIRoute):
    """A route whose problems are pages that say what to do next."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await run_in_threadpool(_packed, request, await answered(request))

        async def answered(request: Request) -> Response:
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


def _packed(request: Request, answer: Response) -> Response:
    if answer.media_type not in _PACKED or len(answer.body) < _LEAST:
        return answer
    answer.headers["Vary"] = "Accept-Encoding"
    if "gzip" in request.headers.get("accept-encoding", ""):
        answer.body = gzip.compress(answer.body, _LEVEL, mtime=0)
        answer.headers["Content-Encoding"] = "gzip"
        answer.headers["Content-Length"] = str(len(answer.body))
    return answer


def page_router() -> APIRouter:
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
