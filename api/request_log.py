"""One log line per request; everything logged during a request carries its id."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paretofit.api.metrics import Metrics
from paretofit.api.problems import REQUEST_ID
from paretofit.core import tracing

_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.api.request")


class RequestLog:
    """Gives each request an id (the client's `X-Request-Id` if it is plain) and logs its outcome."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ACCEPTED.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            with (
                tracing.within(Headers(scope=scope).get("traceparent")),
                tracing.span("request", method=scope["method"], path=scope["path"], request_id=request_id),
            ):
                await self._app(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            principal = scope["state"].get("principal")
            who = {} if principal is None else {"tenant": principal.tenant, "actor": principal.actor}
            _log.info(
                "request_completed",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(seconds, 4),
                **who,
            )
            self._metrics.request(_known(scope["method"]), _route(scope), status, seconds)


def _route(scope: Scope) -> str:
    """The path template of a route; that of an included router lacks the prefix."""
    route = getattr(scope.get("route"), "path", None)
    if route is None:
        return "(none)"
    prefix = "/v1" if scope["path"].startswith("/v1/") and not route.startswith("/v1/") else ""
    return f"{prefix}{route}"


def _known(method: str) -> str:
    """The method as a metric label: clients may send any word."""
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "(other)"
