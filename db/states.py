"""The states of searches, trials, datasets, weights, exports and webhook deliveries, which may follow which, and when:
drawn once, used by every guarded UPDATE.

`docs/states.md` shows them (`paretofit.db.diagrams`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Machine = Mapping[str, Mapping[str, str]]
"""{state: {state that may follow: when it does}}; the first one is where a row begins."""

SEARCH: Final[Machine] = {
    "queued": {
        "running": "its first trial is claimed",
        "paused": "it is paused before anything of it has run",
        "failed": "nothing can be planned for it",
        "cancelled": "it is cancelled before anything of it has run",
    },
    "running": {
        "succeeded": "its plan is done, or a limit is met",
        "failed": "its plan is done and nothing was found",
        "cancelled": "it is cancelled and nothing of it runs any more",
        "paused": "it is paused and nothing of it runs any more",
    },
    "paused": {
        "queued": "it is resumed and nothing of it had run",
        "running": "it is resumed",
        "cancelled": "it is cancelled",
    },
    "succeeded": {},
    "failed": {},
    "cancelled": {},
}
TRIAL: Final[Machine] = {
    "queued": {
        "running": "a worker claims it",
        "cancelled": "its search is cancelled, or has met a limit",
        "infeasible": "it cannot meet the constraints",
    },
    "running": {
        "completed": "its method returned",
        "pruned": "others dominate it",
        "infeasible": "it cannot meet the constraints",
        "failed": "its method raised an error, or it crashed too often",
        "cancelled": "its search is cancelled and its trainer is dead or its lease over, or it is deaf to a time limit",
        "queued": "its worker drained, or it crashed, stalled or was lost",
    },
    "completed": {},
    "pruned": {},
    "infeasible": {},
    "failed": {},
    "cancelled": {},
}
DATASET: Final[Machine] = {
    "pending": {
        "uploading": "its archive begins to arrive",
        "validating": "a worker takes it, if it needs no upload",
        "rejected": "it cannot be used",
    },
    "uploading": {
        "pending": "what has arrived was removed",
        "validating": "its archive is complete",
        "rejected": "it cannot be used",
    },
    "validating": {
        "ready": "its images were checked and stored",
        "rejected": "it cannot be used, or its validation crashed too often",
    },
    "ready": {},
    "rejected": {},
}
WEIGHTS: Final[Machine] = {
    "pending": {
        "uploading": "their file begins to arrive",
        "converting": "a worker fetches them, if they come from a named source",
        "rejected": "they cannot be used",
    },
    "uploading": {
        "pending": "what has arrived was removed",
        "converting": "their file is complete",
        "rejected": "they cannot be used",
    },
    "converting": {
        "ready": "their tensors were checked, renamed and stored",
        "rejected": "they cannot be used, or their conversion crashed too often",
    },
    "ready": {},
    "rejected": {},
}
EXPORT: Final[Machine] = {
    "queued": {"running": "a worker claims it"},
    "running": {
        "ready": "its file computes what PyTorch does",
        "failed": "its file computes something else, it cannot be written, or it crashed too often",
        "queued": "its worker drained, or it crashed or was lost",
    },
    "ready": {},
    "failed": {"queued": "it is asked for again"},
}
DELIVERY: Final[Machine] = {
    "queued": {"running": "a worker claims it", "failed": "its webhook is switched off"},
    "running": {
        "delivered": "the receiver answered with a status of success",
        "failed": "the receiver is gone, its address is not allowed, or it has refused for three days",
        "queued": "it is to be tried again",
    },
    "delivered": {},
    "failed": {},
}


def sources(machine: Machine, target: str) -> tuple[str, ...]:
    """The states from which `target` may be entered. Raises KeyError for an unknown state."""
    if target not in machine:
        raise KeyError(f"no state {target!r}; one of {sorted(machine)}")
    return tuple(sorted(state for state, targets in machine.items() if target in targets))


def terminal(machine: Machine) -> tuple[str, ...]:
    """The states that nothing follows."""
    return tuple(sorted(state for state, targets in machine.items() if not targets))
