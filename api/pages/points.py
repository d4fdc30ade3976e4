"""The page of a point: metrics, network, files and exports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Response

from paretofit.api.lookup import found_search
from paretofit.api.pages import pictures
from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.quantities import order
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import page_router
from paretofit.api.services import Db
from paretofit.api.v1 import exports
from paretofit.api.v1 import points as api
from paretofit.models.architecture import Architecture, ArchitectureError
from paretofit.models.trace import Layer

router = page_router()


@router.get("/points/{point_id}")
def read(point_id: str, session: Db, visitor: Visitor) -> Response:
    """A point with its exports."""
    point = api.read(point_id, session, visitor.tenant)
    return page(
        "point.html",
        here="searches",
        visitor=visitor,
        point=point,
        metrics=sorted(point.metrics.items(), key=lambda metric: order(metric[0])),
        search=found_search(session, visitor.tenant, point.search_id),
        exports=exports.read_list(point_id, session, visitor.tenant).data,
        card=bytes(exports.read_card(point_id, session, visitor.tenant).body).decode(),
        pictures=pictures.of_point(session, point.trial_id, point.key),
        layers=_layers(point.record.get("architecture"), point.input_size),
    )


def _layers(described: Any, size: tuple[int, int]) -> Sequence[Layer]:
    """The layers of the network; empty for an architecture that this release does not support."""
    try:
        return Architecture.from_json(described).layers(size)
    except ArchitectureError:
        return ()
