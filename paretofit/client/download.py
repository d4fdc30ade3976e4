"""Resumable downloads: verified against their SHA-256, then renamed into place."""

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
"""Callback with the bytes transferred so far and the total, in bytes."""

_BLOCK_BYTES: Final = 1 << 20


async def download(
    transport: Transport, path: str, destination: Path, *, sha256: str, size: int, progress: Progress | None = None
) -> Path:
    """Download the content at the URL `path` to `destination`.

    A partial file next to it, named after the digest, survives an interruption and is resumed. Raises
    DigestMismatchError, and deletes the partial file, if the content does not match `sha256`.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{sha256[:16]}.part")
    with partial.open("a+b") as file:
        content = _Content(file)
        await transport.offload(content.load_partial)
        backoff = Backoff(transport)
        while (received := file.tell()) < size:
            headers = {"Accept-Encoding": "identity"}
            if received:
                headers |= {"Range": f"bytes={received}-", "If-Range": f'"{sha256}"'}
            try:
                async with transport.stream("GET", path, headers=headers) as response:
                    if received and response.status != httpx.codes.PARTIAL_CONTENT:
                        content.discard()
                    async for block in response.blocks:
                        await transport.offload(content.add, block)
                        backoff.renew()
                        if progress is not None:
                            progress(file.tell(), size)
            except (httpx.TransportError, ApiError) as failure:
                await backoff.wait(failure)
            else:
                break
        await transport.offload(content.sync)
    if content.sha256 != sha256:
        partial.unlink()
        raise DigestMismatchError(sha256, content.sha256)
    partial.replace(destination)
    return destination


class _Content:
    """A growing file and the SHA-256 of its content."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def load_partial(self) -> None:
        """Hash the bytes of an earlier, interrupted download."""
        self._file.seek(0)
        while block := self._file.read(_BLOCK_BYTES):
            self._digest.update(block)

    def discard(self) -> None:
        """Truncate the file and start over."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()

    def add(self, block: bytes) -> None:
        self._file.write(block)
        self._digest.update(block)

    def sync(self) -> None:
        """Flush the file to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
