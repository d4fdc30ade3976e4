"""Conditional and partial requests for immutable content (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from paretofit.api.problems import UnsatisfiableRangeError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes [start, end) of a content of `size` bytes."""

    start: int
    end: int
    size: int

    @property
    def partial(self) -> bool:
        return (self.start, self.end) != (0, self.size)

    @property
    def headers(self) -> dict[str, str]:
        """Content-Length, and Content-Range for a part."""
        length = {"Content-Length": str(self.end - self.start)}
        return length | ({"Content-Range": f"bytes {self.start}-{self.end - 1}/{self.size}"} if self.partial else {})


def not_modified(headers: Headers, etag: str) -> bool:
    """Whether the client already has the content with this entity tag."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in given.split(",")}


def requested(headers: Headers, etag: str, size: int) -> Span:
    """The requested span: all of it, or one range if `If-Range` allows. Several ranges get the full content.

    Raises UnsatisfiableRangeError.
    """
    whole = Span(0, size, size)
    given = headers.get("range")
    if given is None or headers.get("if-range", etag) != etag:
        return whole
    match = _RANGE.fullmatch(given.strip())
    if match is None or (match[1], match[2]) == ("", ""):
        return whole
    if match[1] == "":
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
        if match[2] and int(match[2]) < start:
            return whole
    if start >= end:
        raise UnsatisfiableRangeError(
            f"the range is outside the content, which has {size} bytes: request a range within it",
            headers={"Content-Range": f"bytes */{size}", "ETag": etag},
        )
    return Span(start, end, size)
