"""Uploads: streamed to a file in the upload folder, and resumable."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from paretofit.api.problems import (
    BadRequestError,
    NoSpaceError,
    TooLargeError,
    UploadInProgressError,
    UploadOffsetError,
)

_BLOCK = 1024**2
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
# A client that lost its connection may retry before the previous request has noticed.
_LOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of a request, from offset `start`; `total` is the size of the whole file, None if unknown."""

    start: int
    total: int | None
    last: bool

    @classmethod
    def of(cls, content_range: str | None, content_length: str | None) -> Part:
        """Parse the headers of a request; without Content-Range it is the whole file. Raises BadRequestError."""
        length = int(content_length) if content_length is not None and content_length.isdigit() else None
        if content_range is None:
            return cls(start=0, total=length, last=True)
        match = _RANGE.fullmatch(content_range.strip())
        if match is None:
            raise BadRequestError(f"invalid Content-Range {content_range!r}: use the form `bytes FIRST-LAST/TOTAL`")
        start, end = int(match[1]), int(match[2]) + 1
        total = None if match[3] == "*" else int(match[3])
        if end < start or (total is not None and end > total) or (length is not None and length != end - start):
            raise BadRequestError(
                f"inconsistent Content-Range {content_range!r}: make FIRST, LAST, TOTAL and the Content-Length agree"
            )
        return cls(start=start, total=total, last=total is not None and end == total)


class Uploads:
    """The folder of unfinished uploads. One request at a time, in any process, writes a file."""

    def __init__(self, folder: Path, *, max_bytes: int, reserve_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes

    def path(self, resource_id: str) -> Path:
        """The path of an unfinished upload."""
        return self._folder / resource_id

    def arrived(self, resource_id: str) -> int:
        """Bytes received so far."""
        path = self.path(resource_id)
        return path.stat().st_size if path.exists() else 0

    def discard(self, resource_id: str) -> None:
        """Delete an unfinished upload."""
        self.path(resource_id).unlink(missing_ok=True)

    @asynccontextmanager
    async def writing(self, resource_id: str) -> AsyncIterator[BinaryIO]:
        """The file, locked for this request. Raises UploadInProgressError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self.path(resource_id)
        while True:
            with path.open("ab") as file:
                await _lock(file)
                # The previous holder of the lock may have completed the upload and removed the file.
                if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    yield file
                    return

    async def receive(
        self, file: BinaryIO, part: Part, body: AsyncIterator[bytes], *, max_bytes: int | None = None
    ) -> int:
        """Append a request's body and return the bytes received so far. `max_bytes` is a limit for this kind of file,
        besides that for all uploads.

        Bytes that arrived before a disconnection are kept. Raises UploadOffsetError, TooLargeError (and keeps nothing),
        NoSpaceError, ClientDisconnect.
        """
        arrived = file.seek(0, 2)
        if part.start == 0 and arrived:
            file.truncate(0)
            arrived = file.seek(0)
        if part.start != arrived:
            raise UploadOffsetError(
                f"the upload has {arrived} bytes: continue with `Content-Range: bytes {arrived}-LAST/TOTAL`",
                uploaded_bytes=arrived,
            )
        self._check(file, part.total or arrived, max_bytes)
        # The finished file is copied into the blob store, so it needs its size twice.
        self._check_space(2 * (part.total or 0) - arrived)
        block = bytearray()
        try:
            async for chunk in body:
                block += chunk
                self._check(file, arrived + len(block), max_bytes)
                if len(block) >= _BLOCK:
                    self._check_space(len(block))
                    await run_in_threadpool(file.write, bytes(block))
                    arrived += len(block)
                    block.clear()
        except ClientDisconnect:
            file.write(block)
            file.flush()
            raise
        file.write(block)
        file.flush()
        arrived += len(block)
        if part.last and part.total is not None and arrived != part.total:
            file.truncate(0)
            raise BadRequestError(
                f"the upload has {arrived} bytes instead of the announced {part.total}: send the file again"
            )
        return arrived

    def _check(self, file: BinaryIO, size: int, max_bytes: int | None) -> None:
        limit, message = self._max_bytes, "the upload exceeds the limit of {} bytes (PARETOFIT_MAX_UPLOAD_BYTES)"
        if max_bytes is not None and max_bytes < limit:
            limit, message = max_bytes, "the file exceeds the limit of {} bytes"
        if size > limit:
            file.truncate(0)
            raise TooLargeError(f"{message.format(limit)}: send a smaller one", limit=limit)

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free - needed < self._reserve_bytes:
            raise NoSpaceError(
                f"{needed} more bytes would leave less than the reserve of {self._reserve_bytes} bytes on the disk of "
                f"{self._folder}: free some space there, or lower PARETOFIT_DISK_RESERVE_BYTES"
            )


async def _lock(file: BinaryIO) -> None:
    deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise UploadInProgressError(
                    "another request is uploading to this resource: wait until it ends, or stop it"
                ) from error
            await asyncio.sleep(0.1)
        else:
            return
