"""Statistics of a run: its faults, their effects, and the minimum numbers of a full run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select

from paretofit.db.tables import SearchRow
from tests.chaos import invariants
from tests.chaos.invariants import Evidence
from tests.chaos.schedule import FAULTS, REQUESTS, Fault

MINIMUMS: Final[Mapping[str, int]] = {
    "searches_accepted": 100,
    "kills_and_stops": 40,
    "redis_faults": 8,
    "postgres_restarts": 8,
    "api_restarts": 5,
    "cancels_acknowledged": 10,
}
"""The minimum numbers of a full run."""
_TRAINING: Final = ("worker", "supervisor", "trainer")


def summarize(evidence: Evidence, done: Counter[Fault], violations: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The statistics of a run as JSON."""
    with evidence.session() as session:
        terminal = Counter(session.scalars(select(SearchRow.state)))
    return {
        "faults": {kind: done[kind] for kind in FAULTS},
        "kills_and_stops": sum(count for kind, count in done.items() if kind.startswith(_TRAINING)),
        "redis_faults": done["redis_kill"] + done["redis_flush"],
        "postgres_restarts": done["postgres_restart"],
        "api_restarts": done["api_kill"],
        "requests": {kind: evidence.load.done[kind] for kind in REQUESTS},
        "searches_accepted": len(set(evidence.load.accepted)),
        "cancels_acknowledged": len(evidence.load.cancelled),
        "terminal": dict(sorted(terminal.items())),
        "violations": {name: len(lines) for name, lines in violations.items()},
        "steps_replayed": sum(invariants.replayed(attempts) for attempts in evidence.by_trial().values()),
        "crashes": invariants.crashes(evidence.engine),
    }


def too_few(numbers: Mapping[str, Any]) -> list[str]:
    """The minimum numbers that this run missed, one line each."""
    return [f"{name}: {numbers[name]} of {minimum}" for name, minimum in MINIMUMS.items() if numbers[name] < minimum]
