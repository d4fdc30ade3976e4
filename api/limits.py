"""How much a request may send."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 1024**2
_UPLOAD = re.compile(r"/v1/(datasets|weights)/[^/]+/content")
_WORTH_READING = 64 * 1024
# To close a connection with unread bytes resets it, and drops what of the answer is not at the client yet.
_ARRIVAL_SECONDS = 0.5


class BodyLimit:
    """Refuses bodies above `MAX_BYTES` with 413, whether their length is announced or not. An upload's is streamed and
    has a cap of its own."""

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
    """Closes the connection after an answer that does not wait for the rest of a large body. The server would read that
    rest otherwise, however much it is, and many clients look for the answer only when they have sent everything."""

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
