"""Resumable upload of a file as the content of a resource."""

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

_BLOCK_BYTES: Final = 1 << 18


class _Uploadable(BaseModel):
    """The fields of a resource that an upload needs."""

    state: str
    uploaded_bytes: int


Document = TypeVar("Document", bound=BaseModel)


async def upload(
    transport: Transport, kind: type[Document], path: str, source: Path, progress: Progress | None
) -> Document:
    """Upload the file `source` to the resource at `path`, a document of type `kind` with `state` and `uploaded_bytes`.

    A retry continues after the bytes that the service has. Raises ApiError (413) if the file exceeds the upload limit,
    OSError if it cannot be read.
    """
    backoff = Backoff(transport)
    with source.open("rb") as file:
        size = file.seek(0, SEEK_END)
        received, retried = 0, False
        while True:
            current = await transport.read(_Uploadable, path)
            if retried and current.state not in {"pending", "uploading"}:
                # The upload was complete; only the response was lost.
                return await transport.read(kind, path)
            start = current.uploaded_bytes if current.uploaded_bytes <= size else 0
            if start > received:
                backoff.renew()
                received = start
            headers = {"Content-Length": str(size - start)}
            if start:
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            try:
                async with transport.stream(
                    "PUT",
                    f"{path}/content",
                    content=_blocks(transport, file, start, size, progress),
                    headers=headers,
                ) as response:
                    content = b"".join([block async for block in response.blocks])
                    return kind.model_validate_json(content, context=transport)
            except (httpx.TransportError, ApiError) as failure:
                await backoff.wait(failure)
            retried = True


async def _blocks(
    transport: Transport, file: BinaryIO, start: int, size: int, progress: Progress | None
) -> AsyncIterator[bytes]:
    file.seek(start)
    while block := await transport.offload(file.read, _BLOCK_BYTES):
        yield block
        if progress is not None:
            progress(file.tell(), size)
