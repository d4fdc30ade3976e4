"""Comparison of the fronts of several searches."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response

from paretofit.api.lookup import found_search
from paretofit.api.pages import fronts
from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.quantities import axis_label, label
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import page_router
from paretofit.api.problems import InvalidError
from paretofit.api.searches import detail
from paretofit.api.services import Db
from paretofit.api.v1 import searches as api
from paretofit.db import datasets
from paretofit.db.tables import SearchRow

router = page_router()
_MOST = 8
_OFFERED = 200


@router.get("/compare")
def read(
    session: Db,
    visitor: Visitor,
    search: Annotated[list[str] | None, Query(max_length=_MOST)] = None,
    x: Annotated[str, Query(max_length=200)] = "macs",
) -> Response:
    """The fronts of the selected searches, over a cost that all of them have."""
    rows = [found_search(session, visitor.tenant, each) for each in dict.fromkeys(search or ())]
    axes = _common(rows)
    if x not in axes:
        raise InvalidError(f"not all of these searches have the axis {x!r}: choose one of {', '.join(axes)}")
    found = [fronts.found_by(session, row) for row in rows]
    drawn = [fronts.draw(each, x) for each in found]
    offered = api.read_list(session, visitor.tenant, limit=_OFFERED).data
    names = datasets.names(session, [*(each.dataset_id for each in offered), *(row.dataset_id for row in rows)])
    return page(
        "compare.html",
        here="compare",
        visitor=visitor,
        chosen={row.id for row in rows},
        offered=offered,
        datasets=names,
        compared=[(detail(session, row, own), each) for row, own, each in zip(rows, found, drawn, strict=True)],
        several=len({row.dataset_id for row in rows}) > 1,
        x=x,
        axes=[fronts.Axis(each, label(each)) for each in axes],
        chart=_chart(rows, drawn, x),
        most=_MOST,
    )


def _common(rows: list[SearchRow]) -> list[str]:
    """Costs that the points of every search have; latencies only of devices that all searches measured on."""
    devices = [{each["device"] for each in _named(row) if each.get("device")} for row in rows]
    shared = sorted(set.intersection(*devices)) if devices else []
    return [*fronts.COUNTED, *(f"latency_ms:{device}" for device in shared)]


def _named(row: SearchRow) -> list[dict[str, Any]]:
    return [*row.spec["constraints"], *row.spec["objectives"]]


def _chart(rows: list[SearchRow], drawn: list[fronts.Drawn], x: str) -> dict[str, Any]:
    return {
        "x": x,
        "label": axis_label(x),
        "searches": [{"name": row.name, "front": each.chart()["front"]} for row, each in zip(rows, drawn, strict=True)],
    }
