"""Sending a file as the content of a resource; what had arrived before an interruption is not sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import httpx
from pydantic import BaseModel

from paretofit.client.download import Progress
from paretofit.client.errors import ApiError
from paretofit.client.transport import Backoff, Transport

_BLOCK: Final = 1 << 18


class _Uploadable(BaseModel):
    """What an upload has to know of its resource."""

    state: str
    uploaded_bytes: int


Document = TypeVar("Document", bound=BaseModel)


async def upload(
    transport: Transport, kind: type[Document], path: str, source: Path, progress: Progress | None
) -> Document:
    """Send the file `source` to the resource at `path`, a document of type `kind` with `state` and `uploaded_bytes`.

    Raises ApiError (413) if it is larger than the service takes, OSError if it cannot be read.
    """
    retry_timeout = Backoff(transport)
    with source.open("rb") as file:
        size = file.seek(0, SEEK_END)
        arrived, repeated = 0, False
        while True:
            now = await transport.read(_Uploadable, path)
            if repeated and now.state not in {"pending", "uploading"}:
                # It had all arrived; only the answer was lost.
                return await transport.read(kind, path)
            start = now.uploaded_bytes if now.uploaded_bytes <= size else 0
            if start > arrived:
                retry_timeout.renew()
                arrived = start
            headers = {"Content-Length": str(size - start)}
            if start:
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            try:
                async with transport.stream(
                    "PUT",
                    f"{path}/content",
                    content=_blocks(transport, file, start, size, progress),
                    headers=headers,
                ) as answer:
                    return kind.model_validate_json(b"".join([block async for block in answer.blocks]))
            except (httpx.TransportError, ApiError) as failure:
                await retry_timeout.wait(failure)
            repeated = True


async def _blocks(
    transport: Transport, file: BinaryIO, start: int, size: int, progress: Progress | None
) -> AsyncIterator[bytes]:
    file.seek(start)
    while block := await transport.offload(file.read, _BLOCK):
        yield block
        if progress is not None:
            progress(file.tell(), size)
