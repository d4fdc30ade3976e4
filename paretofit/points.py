"""Points: networks that searches found, and their files in other formats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from api.schemas.exports import Export, ExportList, ExportRequest, Format, Precision, Shape
from api.schemas.points import PointDetail
from paretofit.errors import ExportFailedError
from paretofit.transport import Transport

_POLL_SECONDS: Final = 0.3


class Points:
    """`client.points`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, point_id: str) -> PointDetail:
        """A network with its whole record."""
        return PointDetail.model_validate_json(self._transport.request("GET", f"/v1/points/{point_id}").content)

    def card(self, point_id: str) -> str:
        """The point's model card, in Markdown."""
        return self._transport.request("GET", f"/v1/points/{point_id}/card").text

    def export(
        self,
        point_id: str,
        file_format: Format,
        *,
        precision: Precision = "float32",
        input_shape: Shape | None = None,
        idempotency_key: str | None = None,
    ) -> Export:
        """Ask for a point's network in a format, such as `onnx`; the same form again is the same export. `input_shape` is
        (channels, height, width) of an image."""
        wanted = ExportRequest(format=file_format, precision=precision, input_shape=input_shape)
        response = self._transport.request(
            "POST",
            f"/v1/points/{point_id}/exports",
            json=wanted.model_dump(mode="json"),
            idempotency_key=idempotency_key,
        )
        return Export.model_validate_json(response.content)

    def exports(self, point_id: str) -> Sequence[Export]:
        """The exports of a point, oldest first."""
        response = self._transport.request("GET", f"/v1/points/{point_id}/exports")
        return ExportList.model_validate_json(response.content).data

    def read_export(self, export_id: str) -> Export:
        """An export as it is now."""
        return Export.model_validate_json(self._transport.request("GET", f"/v1/exports/{export_id}").content)

    def wait(self, export_id: str) -> Export:
        """The export when it is ready: `artifacts.download(export_id, path)` fetches its file. Raises
        ExportFailedError."""
        while (export := self.read_export(export_id)).state != "ready":
            if export.state == "failed":
                raise ExportFailedError(export)
            time.sleep(_POLL_SECONDS)
        return export
