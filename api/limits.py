"""Limits on request bodies."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 1024**2
_UPLOAD = re.compile(r"/v1/(datasets|weights)/[^/]+/content")
_WORTH_READING = 64 * 1024
# Closing a connection with unread bytes resets it, which drops the part of the response that is in flight.
_ARRIVAL_SECONDS = 0.5


class BodyLimit:
    """Rejects bodies above `MAX_BYTES` with 413, with or without Content-Length. Uploads have a limit of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _UPLOAD.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        arrived = 0

        async def limited() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > MAX_BYTES or (announced.isdecimal() and int(announced) > MAX_BYTES):
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


class EarlyAnswer:
    """Closes the connection after a response that is sent before a large body has arrived. Otherwise the server would
    read the rest, however large, and many clients read the response only after sending everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        arriving = "transfer-encoding" in headers or (announced.isdecimal() and int(announced) > _WORTH_READING)

        early = False

        async def followed() -> Message:
            nonlocal arriving
            message = await receive()
            arriving = arriving and message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start" and arriving:
                early = True
                MutableHeaders(scope=message)["Connection"] = "close"
            elif early and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await asyncio.sleep(_ARRIVAL_SECONDS)
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, followed, answer)
