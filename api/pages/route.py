"""The route class of pages: HTML, also for errors, and compressed if the browser accepts it.

Compression can leak secrets of pages that also reflect input of an attacker (BREACH, breachattack.com). No page
reflects its URL beside a secret: keys are only in API responses, which are not compressed, there are no CSRF tokens,
and requests from other sites carry no session (SameSite=Strict).
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
"""Minimum size for compression, bytes."""
_LEVEL: Final = 4


class PageRoute(APIRoute):
    """A route whose problems are rendered as pages."""

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
                return _shown(
                    request, InvalidError(f"invalid value for {places} in the address: correct it and reload")
                )
            except (OperationalError, PoolTimeoutError):
                return _shown(request, UnavailableError("the database is unavailable: reload the page in a moment"))

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
    """The relative URL of the next page of a list; None if there is none."""
    return None if cursor is None else f"?{request.url.include_query_params(cursor=cursor).query}"


def _sign_in(request: Request, problem: UnauthorizedError) -> Response:
    # Links from other sites arrive without the cookie, signed in or not.
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    answer = page("sign_in.html", problem.status, here="", visitor=None, elsewhere=elsewhere)
    answer.headers.update(problem.headers)
    return answer


def _shown(request: Request, problem: ProblemError) -> Response:
    # None if the database was unavailable during authentication.
    visitor = getattr(request.state, "principal", None)
    answer = page("error.html", problem.status, problem=problem, here="", visitor=visitor)
    answer.headers.update(problem.headers)
    return answer
