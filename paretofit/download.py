"""Fetching an artifact to a file: resumed where it stopped, checked against its SHA-256, then renamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import httpx

from paretofit.errors import ApiError, DigestMismatchError, UnreachableError
from paretofit.transport import Patience, Transport, describe, is_passing

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes there will be."""

_BLOCK = 1 << 20


def download(
    transport: Transport, path: str, destination: Path, *, sha256: str, size: int, progress: Progress | None = None
) -> Path:
    """Write the content at the URL `path` to `destination`.

    A partial file beside it, named after the digest, survives an interruption and is continued. Raises
    DigestMismatchError (and removes it) if the bytes are not the content that the digest names.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{sha256[:16]}.part")
    digest = hashlib.sha256()
    with partial.open("a+b") as file:
        file.seek(0)
        while block := file.read(_BLOCK):
            digest.update(block)
        patience = Patience(transport.patience)
        while (received := file.tell()) < size:
            headers = {"Accept-Encoding": "identity"}
            if received:
                headers |= {"Range": f"bytes={received}-", "If-Range": f'"{sha256}"'}
            try:
                with transport.stream("GET", path, headers=headers) as response:
                    if received and response.status_code != httpx.codes.PARTIAL_CONTENT:
                        file.seek(0)
                        file.truncate()
                        digest = hashlib.sha256()
                    for block in response.iter_bytes():
                        file.write(block)
                        digest.update(block)
                        patience.renew()
                        if progress is not None:
                            progress(file.tell(), size)
            except httpx.TransportError as error:
                if not patience.wait():
                    raise UnreachableError(transport.url, describe(error)) from error
            except ApiError as error:
                if not (is_passing(error) and patience.wait()):
                    raise
            else:
                break
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256:
        partial.unlink()
        raise DigestMismatchError(sha256, digest.hexdigest())
    partial.replace(destination)
    return destination
