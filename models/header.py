"""The header of a safetensors file (the JSON object before the tensors' bytes), and the digest of any file.
Torch-free."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

METADATA_KEY = "paretofit"
"""Of Paretofit's record in the header's metadata."""
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit."""


class CheckpointError(ValueError):
    """The file is not a checkpoint of Paretofit's, or a damaged one."""


def read_header(path: Path | str) -> tuple[dict[str, Any], int]:
    """The JSON object in a safetensors file's header, and the number of bytes behind it. Raises CheckpointError, and
    OSError where there is no file."""
    source = Path(path)
    with source.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        room = source.stat().st_size - 8
        if not 2 <= length <= min(room, MAX_HEADER_BYTES):
            raise CheckpointError(f"{source.name} is no safetensors file, or cut short: its header is not all there")
        content = file.read(length)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{source.name} is not a safetensors file, or damaged: its header is not a JSON object")
    return header, room - length


def file_sha256(path: Path | str) -> str:
    """The SHA-256 of a file's content, hexadecimal. Raises OSError where there is no file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
