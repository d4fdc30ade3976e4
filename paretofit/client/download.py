"""Fetching an artifact to a file: resumed where it stopped, checked against its SHA-256, then renamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import httpx

from paretofit.client.errors import ApiError, DigestMismatchError
from paretofit.client.transport import Backoff, Transport

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes there will be."""

_BLOCK: Final = 1 << 20


async def download(
    transport: Transport, path: str, destination: Path, *, sha256: str, size: int, progress: Progress | None = None
) -> Path:
    """Write the content at the URL `path` to `destination`.

    A partial file beside it, named after the digest, survives an interruption and is continued. Raises
    DigestMismatchError (and removes it) if the bytes are not the content that the digest names.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{sha256[:16]}.part")
    with partial.open("a+b") as file:
        content = _Content(file)
        await transport.offload(content.take_up)
        retry_timeout = Backoff(transport)
        while (received := file.tell()) < size:
            headers = {"Accept-Encoding": "identity"}
            if received:
                headers |= {"Range": f"bytes={received}-", "If-Range": f'"{sha256}"'}
            try:
                async with transport.stream("GET", path, headers=headers) as answer:
                    if received and answer.status != httpx.codes.PARTIAL_CONTENT:
                        content.discard()
                    async for block in answer.blocks:
                        await transport.offload(content.add, block)
                        retry_timeout.renew()
                        if progress is not None:
                            progress(file.tell(), size)
            except (httpx.TransportError, ApiError) as failure:
                await retry_timeout.wait(failure)
            else:
                break
        await transport.offload(content.keep)
    if content.sha256 != sha256:
        partial.unlink()
        raise DigestMismatchError(sha256, content.sha256)
    partial.replace(destination)
    return destination


class _Content:
    """A file that grows, and the digest of what is there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def take_up(self) -> None:
        """Read what an earlier download left."""
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            self._digest.update(block)

    def discard(self) -> None:
        """Begin again."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()

    def add(self, block: bytes) -> None:
        self._file.write(block)
        self._digest.update(block)

    def keep(self) -> None:
        """See to it that the bytes survive a crash."""
        self._file.flush()
        os.fsync(self._file.fileno())
