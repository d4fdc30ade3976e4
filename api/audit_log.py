"""The audit log: every mutating request is recorded before its response is sent."""

from __future__ import annotations

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paretofit.api.access import SAFE
from paretofit.api.principal import Principal
from paretofit.db.engine import transaction
from paretofit.db.tables import AuditRow

_log: structlog.stdlib.BoundLogger = structlog.get_logger("paretofit.api.audit")


class AuditLog:
    """Records the requests of authenticated callers and their status. While the database is unavailable, entries go to
    the process log."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self._app(scope, receive, send)
            return
        written = False

        async def answer(message: Message) -> None:
            nonlocal written
            if message["type"] == "http.response.start":
                written = True
                await self._write(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            if not written:
                await self._write(scope, 500)

    async def _write(self, scope: Scope, status: int) -> None:
        principal: Principal | None = scope["state"].get("principal")
        if principal is None:
            return
        entry = {
            "tenant_id": principal.tenant,
            "actor": principal.actor,
            "method": scope["method"],
            "path": scope["path"].replace("\0", "")[:500],
            "status": status,
            "request_id": scope["state"]["request_id"],
            "address": (scope.get("client") or (None,))[0],
        }
        try:
            await run_in_threadpool(self._insert, entry)
        except SQLAlchemyError:
            _log.error("audit_entry_not_stored", **entry)

    def _insert(self, entry: dict[str, object]) -> None:
        with transaction(self._engine) as session:
            session.add(AuditRow(**entry))
