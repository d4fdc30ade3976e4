"""A parser of Server-Sent Events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event; `id` is the last id seen in the stream."""

    id: str
    type: str
    data: str


class Parser:
    """Parses lines without line ends. An incomplete event at the end of the stream is dropped."""

    def __init__(self) -> None:
        self._last_id = ""
        self._reset()

    def _reset(self) -> None:
        self._type = ""
        self._data: list[str] = []

    def feed(self, line: str) -> ServerSentEvent | None:
        """Add a line. Returns the event that it completes, if any."""
        if not line:
            event = ServerSentEvent(self._last_id, self._type or "message", "\n".join(self._data))
            complete = bool(self._data)
            self._reset()
            return event if complete else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id" and "\0" not in value:
            self._last_id = value
        elif field == "event":
            self._type = value
        elif field == "data":
            self._data.append(value)
        return None
