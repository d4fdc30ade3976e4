"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from paretofit.api import problems
from paretofit.api.access import requires
from paretofit.api.services import Service

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    dependencies=[requires("metrics")],
    operation_id="get_metrics_page",
    response_class=PlainTextResponse,
    responses=problems.responses(),
)
def read(service: Service) -> Response:
    """The service's figures in Prometheus' text format; of all tenants together."""
    content, media_type = service.metrics.render(service.engine)
    return Response(content, media_type=media_type)
