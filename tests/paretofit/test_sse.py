from __future__ import annotations

from paretofit.sse import ServerSentEvent, parse


def test_events_end_at_empty_lines_and_comments_are_skipped() -> None:
    lines = [": hello", "id: 1", "event: a", "data: {", "data: }", "", ": ping", "", "data:x", ""]
    assert list(parse(lines)) == [ServerSentEvent("1", "a", "{\n}"), ServerSentEvent("1", "message", "x")]


def test_an_event_that_was_cut_off_is_dropped() -> None:
    assert list(parse(["id: 1", "data: whole", "", "id: 2", "data: ha"])) == [ServerSentEvent("1", "message", "whole")]
