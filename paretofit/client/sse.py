"""Server-Sent Events (WHATWG HTML, section 9.2) from lines of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event; `id` is the last one the stream named."""

    id: str
    type: str
    data: str


class Parser:
    """Takes a stream's lines, without their ends, one at a time. An event cut off by the stream's end is dropped."""

    def __init__(self) -> None:
        self._last_id = ""
        self._begin()

    def _begin(self) -> None:
        self._type = ""
        self._data: list[str] = []

    def take(self, line: str) -> ServerSentEvent | None:
        """The event that a line ends, if it ends one."""
        if not line:
            event = ServerSentEvent(self._last_id, self._type or "message", "\n".join(self._data))
            ended = bool(self._data)
            self._begin()
            return event if ended else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id" and "\0" not in value:
            self._last_id = value
        elif field == "event":
            self._type = value
        elif field == "data":
            self._data.append(value)
        return None
