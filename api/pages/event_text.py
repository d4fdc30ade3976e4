"""Events as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from paretofit.api.pages.quantities import duration
from paretofit.core.formatting import count

_SENTENCES: Final[Mapping[str, str]] = {
    "search.created": "Search accepted",
    "search.queued": "Search queued again after a pause",
    "search.running": "Search running",
    "search.pause_requested": "Pause requested: running trials save a checkpoint first",
    "search.paused": "Search paused",
    "search.resumed": "Search resumed",
    "search.cancel_requested": "Cancellation requested: running trials will stop",
    "search.succeeded": "Search succeeded with {points}",
    "search.failed": "Search failed",
    "search.cancelled": "Search cancelled with {points}",
    "trial.queued": "Trial {number} queued",
    "trial.running": "Trial {number} started",
    "trial.completed": "Trial {number} completed",
    "trial.pruned": "Trial {number} pruned: other trials dominate it",
    "trial.infeasible": "Trial {number} cannot meet the constraints",
    "trial.failed": "Trial {number} failed",
    "trial.cancelled": "Trial {number} cancelled",
    "front.updated": "Trial {number} reported {points}",
}
_QUEUED_AGAIN: Final[Mapping[str, str]] = {
    "drained": " again: its worker shut down, and it continues from its checkpoint",
    "crashed": " again: its last attempt crashed",
    "lost": " again: its worker stopped responding",
}


def sentence(kind: str, data: Mapping[str, Any]) -> str:
    """Trial 3 started on worker gpu-1 (cuda:0)."""
    if kind == "search.changed":
        return _change(data)
    known = {"number": data.get("number", ""), "points": count(data.get("points", 0), "point")}
    return f"{_SENTENCES.get(kind, kind).format(**known)}{_detail(kind, data)}."


def _detail(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "trial.queued":
        return _QUEUED_AGAIN.get(data.get("reason", ""), "")
    if kind == "trial.running":
        device = f" ({data['device']})" if data.get("device") else ""
        return f" on worker {data['worker']}{device}" if data.get("worker") else device
    reason = data.get("stop_reason")
    if reason is not None and reason != "completed":
        return f"; limit {reason} reached"
    error = data.get("error") or {}
    return f": {str(error['detail']).rstrip('.')}" if error.get("detail") else ""


def _change(data: Mapping[str, Any]) -> str:
    if "priority" in data:
        return f"Priority changed to {data['priority']}."
    limits = [
        f"{name.replace('_', ' ')} {value}"
        if not name.endswith("_seconds")
        else f"{name.removesuffix('_seconds').replace('_', ' ')} time {duration(value)}"
        for name, value in data.get("limits", {}).items()
        if value is not None
    ]
    return f"Limits changed: {', '.join(limits)}." if limits else "All limits removed."
