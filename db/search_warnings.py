"""Warnings about the result of a search, computed once in the transaction that ends it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from paretofit.db import datasets
from paretofit.db.tables import PointRow, SearchRow
from paretofit.search import chance, pareto
from paretofit.search.contracts.spec import Constraint


def values(warnings: list[dict[str, Any]]) -> dict[str, Any]:
    """Column values of a search that ends with these warnings. They increment the front's sequence, so that cached
    fronts without them become invalid."""
    return {"warnings": warnings, "front_seq": SearchRow.front_seq + 1} if warnings else {}


def compute(session: Session, search: SearchRow) -> list[dict[str, Any]]:
    """The warnings about the current result of a search, {code, detail} each: its best network does not beat the
    majority class."""
    constraints = [Constraint.model_validate(bound) for bound in search.spec.get("constraints", ())]
    rows = session.execute(
        select(PointRow.key, PointRow.metrics).where(
            PointRow.search_id == search.id,
            PointRow.role == "candidate",
            func.jsonb_typeof(PointRow.metrics["selection_top1"]) == "number",
        )
    )
    feasible = [
        (pareto.preference(metrics, key), metrics)
        for key, metrics in rows
        if all(metrics.get(bound.key) is not None and bound.holds(metrics) for bound in constraints)
    ]
    if not feasible:
        return []
    _, best = min(feasible, key=lambda each: each[0])
    return chance.warnings(best, chance.majority(datasets.class_counts(session, search.dataset_id)))
