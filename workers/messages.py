"""The messages between a supervisor and its trainer: one JSON object per line, with one key.

to the trainer    {"stop": "cancel" | "drain" | "limit"}; end of file: exit immediately
from the trainer  {"metric": [name, step, value]}   {"point": Point}   {"artifact": [name, path]}
                  {"checkpoint": [path, step]}   {"latency": Measured} {"ended": {"state": completed | pruned |
                  infeasible, "outputs": JSON, "error": {code, detail, ...} or null,
                             "stop_seen": Stop}} or {"failed": {code, detail, ...}}: the last one
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def encode(kind: str, value: Any) -> bytes:
    """A message as a line. Raises TypeError or ValueError for values that JSON cannot represent; metrics may be NaN."""
    return json.dumps({kind: value}, allow_nan=kind == "metric").encode() + b"\n"


def decode(line: bytes) -> tuple[str, Any]:
    """The kind and the value of a message. Raises ValueError for an invalid line."""
    message = json.loads(line)
    if not isinstance(message, dict) or len(message) != 1:
        raise ValueError(f"invalid message: {line[:200]!r}")
    return next(iter(message.items()))


class Lines:
    """Splits a byte stream that arrives in chunks into lines; lines are truncated to `longest` bytes."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that this chunk completes, without line ends."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            yield line[: self._longest]
        self._rest = self._rest[: self._longest]

    def end(self) -> Iterator[bytes]:
        """The last line, if the stream did not end with a line end."""
        rest, self._rest = self._rest, b""
        if rest:
            yield rest


def storable(value: Any) -> Any:
    """JSON that PostgreSQL accepts: NUL characters and lone surrogates are replaced."""
    match value:
        case str():
            return value.encode(errors="replace").decode().replace("\0", "\ufffd")
        case dict():
            return {storable(key): storable(item) for key, item in value.items()}
        case list():
            return [storable(item) for item in value]
        case _:
            return value
