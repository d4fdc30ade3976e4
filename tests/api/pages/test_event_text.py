"""Events as sentences."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.api.pages.event_text import sentence
from paretofit.db.events import TYPES

ERROR = {"error": {"code": "error", "detail": "out of memory."}}


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("search.succeeded", {"points": 2, "stop_reason": "completed"}, "Search succeeded with 2 points."),
        (
            "search.succeeded",
            {"points": 1, "stop_reason": "max_trials"},
            "Search succeeded with 1 point; limit max_trials reached.",
        ),
        ("search.failed", ERROR, "Search failed: out of memory."),
        ("search.changed", {"priority": 3}, "Priority changed to 3."),
        (
            "search.changed",
            {"limits": {"max_trials": 20, "max_wall_seconds": 7200.0, "max_epochs": None}},
            "Limits changed: max trials 20, max wall time 2 h 00 min.",
        ),
        ("search.changed", {"limits": {"max_trials": None}}, "All limits removed."),
        ("trial.queued", {"number": 3, "reason": "planned"}, "Trial 3 queued."),
        ("trial.queued", {"number": 3, "reason": "lost"}, "Trial 3 queued again: its worker stopped responding."),
        (
            "trial.running",
            {"number": 3, "worker": "gpu-1", "device": "cuda:0"},
            "Trial 3 started on worker gpu-1 (cuda:0).",
        ),
        ("trial.running", {"number": 3, "worker": "gpu-1", "device": None}, "Trial 3 started on worker gpu-1."),
        ("trial.failed", {"number": 3, **ERROR}, "Trial 3 failed: out of memory."),
        ("front.updated", {"number": 3, "points": 16}, "Trial 3 reported 16 points."),
    ],
)
def test_events_are_shown_as_sentences(kind: str, data: dict[str, Any], expected: str) -> None:
    assert sentence(kind, data) == expected


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_event_has_a_sentence(kind: str) -> None:
    assert kind not in sentence(kind, {})
