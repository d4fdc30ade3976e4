"""Describes the constraints that no network of a search meets."""

from __future__ import annotations

from paretofit.cli.output import short
from paretofit.client.numbers import format_quantity
from paretofit.client.search import SearchDetail


def unmet(search: SearchDetail) -> list[str]:
    """One sentence per unmet constraint; empty once the front has a point."""
    network = "network that meets the other constraints" if len(search.spec["constraints"]) > 1 else "network"
    so_far = "" if search.finished_at is not None else " so far"
    return [
        f"no {network}{so_far} meets the constraint {bound.metric} {bound.op} {_amount(bound.value)}; "
        f"the nearest, {short(bound.point_id)}, has {_amount(bound.nearest)}"
        for bound in search.summary.unmet
    ]


def _amount(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else format_quantity(value)
