"""Searches as response documents."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from paretofit.api.fronts import Box, Found, best
from paretofit.api.schemas.searches import TERMINAL, FrontSummary, Progress, Search, SearchDetail, Usage
from paretofit.db import datasets, limits, points, searches
from paretofit.db.tables import SearchRow
from paretofit.search import chance
from paretofit.search.chance import Majority


def detail(session: Session, row: SearchRow, found: Found | None = None) -> SearchDetail:
    """A search with its specification and results. `found` are its points if they were read before."""
    created = searches.creation(session, row.id)
    spent = searches.spent(session, row.id)
    fields = _fields(row, searches.tallies(session, [row.id])[row.id])
    return SearchDetail(
        **fields,
        spec=row.spec,
        usage=Usage(
            device_seconds=spent.device_seconds,
            wall_seconds=limits.wall_seconds(session, row),
            attempts=spent.attempts,
        ),
        front=_front(
            found or Found(points.of_search(session, row.id), row.spec), row, created, majority(session, row.dataset_id)
        ),
        provenance=created,
    )


def majority(session: Session, dataset_id: str) -> Majority | None:
    """The majority class of a dataset; None if its classes were not counted."""
    return chance.majority(datasets.class_counts(session, dataset_id))


def majority_fields(baseline: Majority | None) -> dict[str, Any]:
    """`paretofit.api.schemas.searches.MajorityClass` of a baseline."""
    return {
        "majority_class": None if baseline is None else baseline.label,
        **{f"majority_{metric}": None if baseline is None else baseline.accuracy(metric) for metric in chance.SPLITS},
    }


def listed(row: SearchRow, tally: searches.Tally) -> Search:
    """A search as shown in lists."""
    return Search(**_fields(row, tally))


def _fields(row: SearchRow, tally: searches.Tally) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "stop_reason": row.stop_reason,
        "error": row.error,
        "warnings": row.warnings,
        "method": row.method,
        "dataset_id": row.dataset_id,
        "labels": row.labels,
        "priority": row.priority,
        "limits": row.limits,
        "cancel_requested": row.cancel_requested,
        "pause_requested": row.pause_requested,
        "progress": _progress(row, tally),
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def _progress(row: SearchRow, tally: searches.Tally) -> Progress:
    if row.state in TERMINAL:
        return Progress.model_validate({"trials": tally.states, "fraction": 1, "eta_seconds": None})
    total = sum(tally.states.values())
    fraction = min(1.0, tally.done / total) if total else 0.0
    eta = None
    if row.state == "running" and row.started_at is not None and fraction > 0:
        taken = (datetime.now(UTC) - row.started_at).total_seconds() - row.paused_seconds
        eta = taken * (1 - fraction) / fraction
    return Progress.model_validate({"trials": tally.states, "fraction": fraction, "eta_seconds": eta})


def _front(found: Found, row: SearchRow, created: Mapping[str, Any], baseline: Majority | None) -> FrontSummary:
    front = found.front(["macs"])
    box = Box.of(row.spec, created)
    chosen = best(front, ())
    return FrontSummary(
        sequence=row.front_seq,
        points=len(front),
        best_selection_top1=None if chosen is None else chosen.row.metrics["selection_top1"],
        best_top1=None if chosen is None else chosen.row.metrics.get("top1"),
        macs_min=front[0].row.metrics["macs"] if front else None,
        macs_max=front[-1].row.metrics["macs"] if front else None,
        hypervolume=None if box is None else box.hypervolume(front),
        unmet=found.unmet(),
        **majority_fields(baseline),
    )
