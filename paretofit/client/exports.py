"""Requests for exports of points to other formats."""

from __future__ import annotations

from typing import Final

from paretofit.api.schemas.exports import Export, ExportRequest, Format, Precision, Shape
from paretofit.client.errors import ExportFailedError
from paretofit.client.transport import Transport

_POLL_SECONDS: Final = 0.3


async def create(
    transport: Transport,
    point_id: str,
    file_format: Format,
    *,
    precision: Precision,
    input_shape: Shape | None,
    idempotency_key: str | None = None,
) -> Export:
    """Request an export of a point, or get the existing one."""
    body = ExportRequest(format=file_format, precision=precision, input_shape=input_shape)
    return await transport.read(
        Export,
        f"/v1/points/{point_id}/exports",
        method="POST",
        json=body.model_dump(mode="json"),
        idempotency_key=idempotency_key,
    )


async def read(transport: Transport, export_id: str) -> Export:
    """Read an export."""
    return await transport.read(Export, f"/v1/exports/{export_id}")


async def wait(transport: Transport, export_id: str) -> Export:
    """Wait until an export is ready. Raises ExportFailedError."""
    while (export := await read(transport, export_id)).state != "ready":
        if export.state == "failed":
            raise ExportFailedError(export)
        await transport.sleep(_POLL_SECONDS)
    return export
