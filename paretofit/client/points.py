"""Points: networks that searches found, and their files in other formats."""

from __future__ import annotations

from collections.abc import Sequence

from paretofit.api.schemas.exports import Export, ExportList, Format, Precision, Shape
from paretofit.client import exports
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, method
from paretofit.client.point import PointDetail


class Points(Resource[M]):
    """`client.points`."""

    @method
    async def get(self, point_id: str) -> PointDetail[M]:
        """A network with its whole record."""
        return await self._transport.read(PointDetail[M], f"/v1/points/{point_id}")

    @method
    async def card(self, point_id: str) -> str:
        """The point's model card, in Markdown."""
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
        """Ask for a point's network in a format, such as `onnx`; the same form again is the same export. `input_shape`
        is (channels, height, width) of an image."""
        return await exports.ask(
            self._transport,
            point_id,
            file_format,
            precision=precision,
            input_shape=input_shape,
            idempotency_key=idempotency_key,
        )

    @method
    async def exports(self, point_id: str) -> Sequence[Export]:
        """The exports of a point, oldest first."""
        return (await self._transport.read(ExportList, f"/v1/points/{point_id}/exports")).data

    @method
    async def read_export(self, export_id: str) -> Export:
        """An export as it is now."""
        return await exports.read(self._transport, export_id)

    @method
    async def wait(self, export_id: str) -> Export:
        """The export when it is ready: `artifacts.download(export_id, path)` fetches its file. Raises
        ExportFailedError."""
        return await exports.wait(self._transport, export_id)
