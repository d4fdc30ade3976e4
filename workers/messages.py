"""What crosses the pipes between a supervisor and its trainer: one JSON object a line, with one key.

to the trainer    {"stop": "cancel" | "drain" | "limit"}; the pipe's end: end at once
from the trainer  {"metric": [name, step, value]}   {"point": Point}   {"artifact": [name, path]}
                  {"checkpoint": [path, step]}   {"latency": Measured} {"ended": {"state": completed | pruned |
                  infeasible, "outputs": JSON, "error": {code, detail, ...} or null,
                             "told": Stop}} or {"failed": {code, detail, ...}}: the last one
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def encode(kind: str, value: Any) -> bytes:
    """A message as a line. Raises TypeError or ValueError for what JSON cannot hold (such as NaN, but in metrics)."""
    return json.dumps({kind: value}, allow_nan=kind == "metric").encode() + b"\n"


def decode(line: bytes) -> tuple[str, Any]:
    """The kind and the value of a message. Raises ValueError for anything else."""
    message = json.loads(line)
    if not isinstance(message, dict) or len(message) != 1:
        raise ValueError(f"no message: {line[:200]!r}")
    return next(iter(message.items()))


class Lines:
    """Whole lines from a stream that arrives in pieces; a line longer than `longest` bytes is cut."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that this piece completes, without their line ends."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            yield line[: self._longest]
        self._rest = self._rest[: self._longest]

    def end(self) -> Iterator[bytes]:
        """What the stream ended with, if its last line had no end."""
        rest, self._rest = self._rest, b""
        if rest:
            yield rest


def storable(value: Any) -> Any:
    """JSON as PostgreSQL takes it: its text holds no NUL and no half of a surrogate pair."""
    match value:
        case str():
            return value.encode(errors="replace").decode().replace("\0", "\ufffd")
        case dict():
            return {storable(key): storable(item) for key, item in value.items()}
        case list():
            return [storable(item) for item in value]
        case _:
            return value
