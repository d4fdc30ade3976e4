"""Server-Sent Events (WHATWG HTML, section 9.2) from lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event; `id` is the last one the stream named."""

    id: str
    type: str
    data: str


def parse(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """The events of a stream, whose lines come without their ends. An event cut off by the stream's end is dropped."""
    last_id, kind, data = "", "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield ServerSentEvent(last_id, kind or "message", "\n".join(data))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id" and "\0" not in value:
            last_id = value
        elif field == "event":
            kind = value
        elif field == "data":
            data.append(value)
