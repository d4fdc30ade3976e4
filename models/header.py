"""Header of a safetensors file (the JSON object before the tensors' bytes), and digests of files. Torch-free."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

METADATA_KEY = "paretofit"
"""Key of Paretofit's record in the header's metadata."""
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit, in bytes."""


class CheckpointError(ValueError):
    """The file is damaged or not a checkpoint of Paretofit."""


def read_header(path: Path | str) -> tuple[dict[str, Any], int]:
    """The JSON object in a safetensors file's header, and the number of bytes after it. Raises CheckpointError, and
    OSError for a missing file."""
    source = Path(path)
    with source.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        room = source.stat().st_size - 8
        if not 2 <= length <= min(room, MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{source.name} is not a safetensors file, or truncated: its header is incomplete; copy it again"
            )
        content = file.read(length)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{source.name} is not a safetensors file, or damaged: its header is not a JSON object; copy it again"
        )
    return header, room - length


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's content, hexadecimal. Raises OSError for a missing file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
