from __future__ import annotations

from paretofit.client.sse import Parser, ServerSentEvent


def parse(lines: list[str]) -> list[ServerSentEvent]:
    parser = Parser()
    return [event for line in lines if (event := parser.feed(line)) is not None]


def test_events_end_at_empty_lines_and_comments_are_skipped() -> None:
    lines = [": hello", "id: 1", "event: a", "data: {", "data: }", "", ": ping", "", "data:x", ""]
    assert parse(lines) == [ServerSentEvent("1", "a", "{\n}"), ServerSentEvent("1", "message", "x")]


def test_incomplete_event_is_dropped() -> None:
    assert parse(["id: 1", "data: whole", "", "id: 2", "data: ha"]) == [ServerSentEvent("1", "message", "whole")]
