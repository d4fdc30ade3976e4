"""Stored files as responses: in full, as one range, or 304 if the client has them."""

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
    206: {"description": "The requested range."},
    304: {"description": "Not modified."},
}


def content(request: Request, blobs: BlobStore, sha256: str, *, name: str, media_type: str) -> Response:
    """The blob `sha256` as an attachment called `name`. A full download is verified: a corrupt file never arrives
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
    # Otherwise a missing file would be noticed only after the headers are sent.
    size = blobs.size(sha256)
    span = ranges.requested(request.headers, etag, size)
    headers |= span.headers
    status = 206 if span.partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    chunks = blobs.stream(sha256, span.start, span.end)
    return StreamingResponse(_with_first_chunk(chunks), status, headers, media_type=media_type)


def _with_first_chunk(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, with the first one read now, so that a corrupt small file is an error, not a broken download."""
    first = next(chunks, b"")

    def resumed() -> Iterator[bytes]:
        yield first
        yield from chunks

    return resumed()


def _disposition(name: str) -> str:
    """The Content-Disposition of an attachment with this file name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
