"""The states of searches, trials, datasets, weights, exports and webhook deliveries: which transitions are allowed, and
when they happen. Every guarded UPDATE uses these tables.

`docs/states.md` shows them (`paretofit.db.diagrams`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Machine = Mapping[str, Mapping[str, str]]
"""{state: {next state: when the transition happens}}; the first state is the initial one."""

SEARCH: Final[Machine] = {
    "queued": {
        "running": "its first trial is claimed",
        "paused": "it is paused before any of its trials has started",
        "failed": "no trial can be planned for it",
        "cancelled": "it is cancelled before any of its trials has started",
    },
    "running": {
        "succeeded": "its plan is complete, or it has reached a limit",
        "failed": "its plan is complete and no network was found",
        "cancelled": "it is cancelled and its last running trial has stopped",
        "paused": "it is paused and its last running trial has stopped",
    },
    "paused": {
        "queued": "it is resumed and none of its trials had started",
        "running": "it is resumed and one of its trials had started",
        "cancelled": "it is cancelled",
    },
    "succeeded": {},
    "failed": {},
    "cancelled": {},
}
TRIAL: Final[Machine] = {
    "queued": {
        "running": "a worker claims it",
        "cancelled": "its search is cancelled, or has reached a limit",
        "infeasible": "it cannot meet the constraints",
    },
    "running": {
        "completed": "its method returned a result",
        "pruned": "other networks dominate it",
        "infeasible": "it cannot meet the constraints",
        "failed": "its method raised an error, or it crashed too often",
        "cancelled": "its search is cancelled and its trainer ended or its lease expired, or it exceeded a time limit",
        "queued": "its search is paused, its worker is shutting down, or it crashed, stalled or was lost",
    },
    "completed": {},
    "pruned": {},
    "infeasible": {},
    "failed": {},
    "cancelled": {},
}
DATASET: Final[Machine] = {
    "pending": {
        "uploading": "the upload of its archive starts",
        "validating": "a worker claims it, if it needs no upload",
        "rejected": "it cannot be used",
    },
    "uploading": {
        "pending": "the abandoned upload was deleted",
        "validating": "the upload of its archive is complete",
        "rejected": "it cannot be used",
    },
    "validating": {
        "ready": "its images were validated and stored",
        "rejected": "it cannot be used, or its validation crashed too often",
    },
    "ready": {},
    "rejected": {},
}
WEIGHTS: Final[Machine] = {
    "pending": {
        "uploading": "the upload of their file starts",
        "converting": "a worker claims them, if they come from a named source",
        "rejected": "they cannot be used",
    },
    "uploading": {
        "pending": "the abandoned upload was deleted",
        "converting": "the upload of their file is complete",
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
        "ready": "its file gives the same outputs as PyTorch",
        "failed": "its outputs differ from PyTorch, it cannot be written, or it crashed too often",
        "queued": "its worker is shutting down, or it crashed or was lost",
    },
    "ready": {},
    "failed": {"queued": "it is requested again"},
}
DELIVERY: Final[Machine] = {
    "queued": {"running": "a worker claims it", "failed": "its webhook is disabled"},
    "running": {
        "delivered": "the receiver answered with a 2xx status",
        "failed": "the receiver answered 410, its address is not allowed, or deliveries failed for three days",
        "queued": "a retry is scheduled",
    },
    "delivered": {},
    "failed": {},
}


def sources(machine: Machine, target: str) -> tuple[str, ...]:
    """The states that allow a transition to `target`. Raises KeyError for an unknown state."""
    if target not in machine:
        raise KeyError(f"unknown state {target!r}: use one of {', '.join(sorted(machine))}")
    return tuple(sorted(state for state, targets in machine.items() if target in targets))


def terminal(machine: Machine) -> tuple[str, ...]:
    """The states without a transition."""
    return tuple(sorted(state for state, targets in machine.items() if not targets))
