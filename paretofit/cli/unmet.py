"""What keeps every network of a search from its front, in words."""

from __future__ import annotations

from paretofit.cli.output import short
from paretofit.client.numbers import format_quantity
from paretofit.client.search import SearchDetail


def unmet(search: SearchDetail) -> list[str]:
    """A sentence for each bound that no network meets; none once the front has a point."""
    network = "network within the other bounds" if len(search.spec["constraints"]) > 1 else "network"
    verb = "meets" if search.finished_at is not None else "has yet met"
    return [
        f"no {network} {verb} the bound {bound.metric} {bound.op} {_amount(bound.value)}: "
        f"the nearest, {short(bound.point_id)}, has {_amount(bound.nearest)}"
        for bound in search.summary.unmet
    ]


def _amount(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else format_quantity(value)
