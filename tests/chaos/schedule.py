"""The schedule of a run, drawn from the seed before it starts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

Fault = Literal[
    "worker_kill",
    "supervisor_kill",
    "trainer_kill",
    "worker_stop",
    "supervisor_stop",
    "supervisor_doze",
    "trainer_stop",
    "worker_drain",
    "light_kill",
    "relay_kill",
    "redis_kill",
    "redis_flush",
    "postgres_restart",
    "api_kill",
    "duplicate_messages",
]
Request = Literal["search", "mutualnet", "dataset", "cancel", "pause"]
Guard = Literal["epoch_guard", "outbox", "claim_guard", "rename"]

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
REQUESTS: Final[tuple[Request, ...]] = get_args(Request)
GUARDS: Final[tuple[Guard, ...]] = get_args(Guard)
FULL_SECONDS: Final = 600.0

_PER_FULL_RUN: Final[Mapping[Fault | Request, int]] = {
    "worker_kill": 8,
    "supervisor_kill": 8,
    "trainer_kill": 12,
    "worker_stop": 5,
    "supervisor_stop": 7,
    "supervisor_doze": 8,
    "trainer_stop": 6,
    "worker_drain": 6,
    "light_kill": 4,
    "relay_kill": 5,
    "redis_kill": 7,
    "redis_flush": 5,
    "postgres_restart": 11,
    "api_kill": 8,
    "duplicate_messages": 8,
    "search": 130,
    "mutualnet": 5,
    "dataset": 6,
    "cancel": 20,
    "pause": 12,
}
_GUARDS_AGAINST: Final[Mapping[Guard, Fault]] = {
    "epoch_guard": "supervisor_stop",
    "outbox": "redis_flush",
    "claim_guard": "duplicate_messages",
    "rename": "supervisor_kill",
}
"""The fault that each guard protects against; a run without the guard injects it every few seconds."""
_EVERY_SECONDS: Final = 4.0
_WHEN: Final[Mapping[Fault | Request, tuple[float, float]]] = {"search": (0.0, 0.9), "mutualnet": (0.0, 0.6)}
_CALM_SHARE: Final = 0.04
"""Share of the time at the start and at the end without faults."""


@dataclass(frozen=True, slots=True)
class Action:
    """A fault or a request at a time, in seconds from the start."""

    at: float
    kind: Fault | Request


def draw(rng: random.Random, seconds: float, without: Guard | None) -> list[Action]:
    """The actions of a run in order: of each kind a number proportional to its length, at least one, spread evenly."""
    counts = {kind: max(1, round(count * seconds / FULL_SECONDS)) for kind, count in _PER_FULL_RUN.items()}
    if without is not None:
        counts[_GUARDS_AGAINST[without]] = max(counts[_GUARDS_AGAINST[without]], round(seconds / _EVERY_SECONDS))
    # Searches take seconds. In a short run they are frequent, so that faults find running trials.
    counts["search"] = max(counts["search"], round(seconds / 4))
    actions = []
    for kind, count in counts.items():
        first, last = _WHEN.get(kind, (_CALM_SHARE, 1 - _CALM_SHARE))
        for index in range(count):
            share = (index + rng.random()) / count
            actions.append(Action(seconds * (first + share * (last - first)), kind))
    return sorted(actions, key=lambda action: action.at)
