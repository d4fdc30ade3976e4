"""Points as files of other formats: asked for, waited for."""

from __future__ import annotations

from typing import Final

from paretofit.api.schemas.exports import Export, ExportRequest, Format, Precision, Shape
from paretofit.client.errors import ExportFailedError
from paretofit.client.transport import Transport

_POLL_SECONDS: Final = 0.3


async def ask(
    transport: Transport,
    point_id: str,
    file_format: Format,
    *,
    precision: Precision,
    input_shape: Shape | None,
    idempotency_key: str | None = None,
) -> Export:
    """An export of a point, which may be there already."""
    wanted = ExportRequest(format=file_format, precision=precision, input_shape=input_shape)
    return await transport.read(
        Export,
        f"/v1/points/{point_id}/exports",
        method="POST",
        json=wanted.model_dump(mode="json"),
        idempotency_key=idempotency_key,
    )


async def read(transport: Transport, export_id: str) -> Export:
    """An export as it is now."""
    return await transport.read(Export, f"/v1/exports/{export_id}")


async def wait(transport: Transport, export_id: str) -> Export:
    """The export when it is ready. Raises ExportFailedError."""
    while (export := await read(transport, export_id)).state != "ready":
        if export.state == "failed":
            raise ExportFailedError(export)
        await transport.sleep(_POLL_SECONDS)
    return export
