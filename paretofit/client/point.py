"""`Point`: a network of a search, which can be downloaded and exported."""

from __future__ import annotations

from pathlib import Path

from paretofit.api.schemas import points as schemas
from paretofit.api.schemas.exports import Format, Precision, Shape
from paretofit.client import bars, exports
from paretofit.client.api_object import ApiObject
from paretofit.client.artifacts import Artifacts
from paretofit.client.calling import M, method
from paretofit.client.errors import NoSuchError
from paretofit.client.transport import Transport


class Point(ApiObject[M], schemas.FrontPoint):
    """A network with its metrics (`metrics`), varied values (`config`) and checkpoint (`artifact`)."""

    @method
    async def download(self, path: str | Path | None = None, *, progress: bool | None = None) -> Path:
        """Download the checkpoint, which `paretofit.load` loads. Resumes an interrupted download.

        Args:
            path: A file or folder; default: `KEY.safetensors` in the current folder.
            progress: Show a progress bar; None shows it on a terminal.

        Returns:
            The path of the file.

        Raises:
            NoSuchError: The point has no checkpoint of its own.
            DigestMismatchError: The content does not match its SHA-256.
        """
        if self.artifact is None:
            raise NoSuchError(
                f"point {self.id} has no checkpoint of its own; create one with "
                f"`paretofit export {self.id} --format safetensors`"
            )
        target = _target(path, f"{_file_name(self.key)}.safetensors")
        return await _fetch(self._transport, self.artifact.id, self.artifact.size, target, shown=progress)

    @method
    async def export(
        self,
        file_format: Format,
        path: str | Path | None = None,
        *,
        precision: Precision = "float32",
        input_shape: Shape | None = None,
        progress: bool | None = None,
    ) -> Path:
        """Export the network and download the file. The service verifies that its logits match PyTorch's.

        Args:
            file_format: Such as `onnx`.
            path: A file or folder; default: the name of the export in the current folder.
            precision: Precision of the weights.
            input_shape: (channels, height, width) of an image; default: evaluation shape.
            progress: Show a progress bar; None shows it on a terminal.

        Returns:
            The path of the file.

        Raises:
            ExportFailedError: The export failed.
        """
        requested = await exports.create(
            self._transport, self.id, file_format, precision=precision, input_shape=input_shape
        )
        export = await exports.wait(self._transport, requested.id)
        assert export.artifact is not None
        target = _target(path, export.artifact.name)
        return await _fetch(self._transport, export.artifact.id, export.artifact.size, target, shown=progress)

    @method
    async def card(self) -> str:
        """The model card of the point, in Markdown."""
        return (await self._transport.request("GET", f"/v1/points/{self.id}/card")).text


class DatasetPoint(Point[M], schemas.DatasetPoint):
    """A point with the search that found it."""


class PointDetail(Point[M], schemas.PointDetail):
    """A point with the full record of its checkpoint."""


async def _fetch(transport: Transport, artifact_id: str, size: int, target: Path, *, shown: bool | None) -> Path:
    with bars.transfer("downloading", size, shown=shown) as report:
        return await Artifacts.download(Artifacts(transport), artifact_id, target, report)


def _target(path: str | Path | None, name: str) -> Path:
    target = Path(name if path is None else path)
    return target / name if target.is_dir() else target


def _file_name(key: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in key).strip(".-") or "point"
