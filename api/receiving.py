"""Receiving the content of a dataset or of weights: started, interrupted, finished. Each step is a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from paretofit.api import problems, quotas
from paretofit.api.services import Services
from paretofit.api.uploads import Part
from paretofit.db import references, uploads
from paretofit.db.engine import transaction
from paretofit.db.jobs import JobKind
from paretofit.db.tables import DatasetRow, WeightsRow

HEAD: Final = 16
"""Leading bytes that `Receiver.check_head` gets; fewer if the content is shorter."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Receives the content of one row. `path` is where rows of its kind are listed. `max_bytes` is a limit besides that
    of all uploads. `check_head` gets the first bytes before any is written, and may raise a ProblemError: then
    nothing is stored."""

    service: Services
    kind: JobKind[Any]
    tenant: str
    resource_id: str
    path: str
    max_bytes: int | None = None
    check_head: Callable[[bytes], None] | None = None

    async def receive(self, request: Request, content_range: str | None) -> None:
        """Store a request's body, and queue the processing after the last part. Bytes that arrived before a
        disconnection are kept.

        Raises NotFoundError, NotUploadableError, QuotaExceededError, and what `Uploads.writing` and `Uploads.receive`
        raise.
        """
        part = Part.of(content_range, request.headers.get("content-length"))
        await run_in_threadpool(self._find)
        async with self.service.uploads.writing(self.resource_id) as file:
            try:
                await run_in_threadpool(self._begin, part)
                body: AsyncIterator[bytes] = request.stream()
                if self.check_head is not None and part.start == 0:
                    body = _checked(body, self.check_head)
                await self.service.uploads.receive(file, part, body, max_bytes=self.max_bytes)
            except (problems.ProblemError, ClientDisconnect) as error:
                if isinstance(error, problems.ProblemError):
                    self.service.metrics.upload_refused(error.code)
                await run_in_threadpool(self._keep)
                raise
            await run_in_threadpool(self._finish if part.last else self._keep)

    def _find(self) -> None:
        with transaction(self.service.engine) as session:
            self._found(session)

    def _found(self, session: Session) -> DatasetRow | WeightsRow:
        row = uploads.get(session, self.kind, self.tenant, self.resource_id)
        if row is None:
            raise problems.NotFoundError(f"no {self.kind.noun} {self.resource_id!r}; GET {self.path} lists yours")
        return row

    def _begin(self, part: Part) -> None:
        with transaction(self.service.engine) as session:
            row = self._found(session)
            more = max((part.total or 0) - row.uploaded_bytes, 0)
            quotas.admit_bytes(session, self.tenant, self.service.settings, more=more)
            if row.source["kind"] != "upload":
                raise problems.NotUploadableError(
                    f"the source is {row.source['kind']!r}, not an upload: POST {self.path} with source "
                    "{'kind': 'upload'} to send content"
                )
            if not uploads.start(session, self.kind, self.tenant, self.resource_id):
                raise problems.NotUploadableError(
                    f"the content is already complete (state {row.state}): POST {self.path} again to send other content"
                )

    def _keep(self) -> None:
        """Count the received bytes toward the quota. They are deleted if they exceed it, which happens with concurrent
        uploads or an unannounced size."""
        arrived = self.service.uploads.arrived(self.resource_id)
        try:
            with transaction(self.service.engine) as session:
                row = uploads.get(session, self.kind, self.tenant, self.resource_id)
                if row is not None and arrived > row.uploaded_bytes:
                    quotas.admit_bytes(session, self.tenant, self.service.settings, more=arrived - row.uploaded_bytes)
                uploads.keep(session, self.kind, self.tenant, self.resource_id, arrived)
        except problems.QuotaExceededError:
            self.service.uploads.discard(self.resource_id)
            with transaction(self.service.engine) as session:
                uploads.keep(session, self.kind, self.tenant, self.resource_id, 0)
            raise

    def _finish(self) -> None:
        service = self.service
        gone = problems.NotFoundError(f"{self.kind.noun} {self.resource_id!r} was deleted during the upload")
        # Before it is in the blob store, which would keep it for a day. (With no bytes, the row would not change.)
        if service.uploads.arrived(self.resource_id):
            self._keep()
        try:
            blob = service.blobs.put(service.uploads.path(self.resource_id))
        except FileNotFoundError as error:
            raise gone from error
        with transaction(service.engine) as session:
            references.pin(session, service.blobs, [blob.sha256])
            if not uploads.finish(
                session, self.kind, self.tenant, self.resource_id, sha256=blob.sha256, size=blob.size
            ):
                raise gone
        service.uploads.discard(self.resource_id)


async def _checked(body: AsyncIterator[bytes], check: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    """The same bytes, held back until `check` has seen the first `HEAD` of them, or all if there are fewer."""
    held, checked = b"", False
    async for chunk in body:
        if checked:
            yield chunk
            continue
        held += chunk
        if len(held) >= HEAD:
            check(held[:HEAD])
            checked = True
            yield held
    if not checked:
        check(held)
        yield held
