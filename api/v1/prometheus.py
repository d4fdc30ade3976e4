"""Metrics for Prometheus."""

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
    """Get the metrics of the service, over all tenants, in the Prometheus text format."""
    content, media_type = service.metrics.render(service.engine)
    return Response(content, media_type=media_type)
