"""`client.points`: networks found by searches, and their exports."""

from __future__ import annotations

from collections.abc import Sequence

from paretofit.api.schemas.exports import Export, ExportList, Format, Precision, Shape
from paretofit.client import exports
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, method
from paretofit.client.point import PointDetail


class Points(Resource[M]):
    """Points by id (`client.points`)."""

    @method
    async def get(self, point_id: str) -> PointDetail[M]:
        """Read a point with its full record."""
        return await self._transport.read(PointDetail[M], f"/v1/points/{point_id}")

    @method
    async def card(self, point_id: str) -> str:
        """The model card of a point, in Markdown."""
        return (await self._transport.request("GET", f"/v1/points/{point_id}/card")).text

    @method
    async def export(
        self,
        point_id: str,
        file_format: Format,
        *,
        precision: Precision = "float32",
        input_shape: Shape | None = None,
        idempotency_key: str | None = None,
    ) -> Export:
        """Request an export of a point. The same request again returns the same export.

        Args:
            point_id: Id of the point.
            file_format: Such as `onnx`.
            precision: Precision of the weights.
            input_shape: (channels, height, width) of an image; default: evaluation shape.
            idempotency_key: Your own key, to repeat the request safely from another process.
        """
        return await exports.create(
            self._transport,
            point_id,
            file_format,
            precision=precision,
            input_shape=input_shape,
            idempotency_key=idempotency_key,
        )

    @method
    async def exports(self, point_id: str) -> Sequence[Export]:
        """List the exports of a point, oldest first."""
        return (await self._transport.read(ExportList, f"/v1/points/{point_id}/exports")).data

    @method
    async def read_export(self, export_id: str) -> Export:
        """Read an export."""
        return await exports.read(self._transport, export_id)

    @method
    async def wait(self, export_id: str) -> Export:
        """Wait until an export is ready; download its file with `client.artifacts.download`.

        Raises:
            ExportFailedError: The export failed.
        """
        return await exports.wait(self._transport, export_id)
