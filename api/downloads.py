"""Stored files as answers: whole, one range of them, or not at all if the client has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from paretofit.api import ranges
from paretofit.db.blobs import BlobStore

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The range that was asked for."},
    304: {"description": "The client has it."},
}


def content(request: Request, blobs: BlobStore, sha256: str, *, name: str, media_type: str) -> Response:
    """The blob `sha256` as an attachment called `name`. A whole download is verified: one that is damaged never arrives
    complete.

    Raises UnsatisfiableRangeError, BlobMissingError, BlobCorruptError.
    """
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": _disposition(name),
        "X-Content-Type-Options": "nosniff",
    }
    if ranges.not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    # Without this, a lost file would show only after the headers are sent.
    size = blobs.size(sha256)
    span = ranges.requested(request.headers, etag, size)
    headers |= span.headers
    status = 206 if span.partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    chunks = blobs.stream(sha256, span.start, span.end)
    return StreamingResponse(_begun(chunks), status, headers, media_type=media_type)


def _begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, the first one read now, so that damage in a small file is an error and no broken download."""
    first = next(chunks, b"")

    def resumed() -> Iterator[bytes]:
        yield first
        yield from chunks

    return resumed()


def _disposition(name: str) -> str:
    """As an attachment with the file's name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
