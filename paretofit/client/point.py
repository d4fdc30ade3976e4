"""A point that can be downloaded and exported."""

from __future__ import annotations

from pathlib import Path

from paretofit.api.schemas import points as schemas
from paretofit.api.schemas.exports import Format, Precision, Shape
from paretofit.client import bars, exports
from paretofit.client.api_object import Bound
from paretofit.client.artifacts import Artifacts
from paretofit.client.calling import M, method
from paretofit.client.errors import NoSuchError
from paretofit.client.transport import Transport


class Point(Bound[M], schemas.FrontPoint):
    """A network with its metrics."""

    @method
    async def download(self, path: str | Path | None = None, *, progress: bool | None = None) -> Path:
        """Write its checkpoint to `path`, a file or a folder, by default `KEY.safetensors` here; `paretofit.load` reads
        it.

        An interrupted download goes on, and the digest is checked. `progress` shows a bar, or none; unset: on a
        terminal. Raises NoSuchError for a point without weights of its own, DigestMismatchError.
        """
        if self.artifact is None:
            raise NoSuchError(
                f"point {self.id} has no checkpoint of its own; `paretofit export {self.id} --format safetensors` "
                "makes one"
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
        """Its network in a format, such as `onnx`: made by the service, compared with PyTorch there, and downloaded to
        `path`, a file or a folder. `input_shape` is (channels, height, width) of an image. Raises ExportFailedError."""
        asked = await exports.ask(self._transport, self.id, file_format, precision=precision, input_shape=input_shape)
        made = await exports.wait(self._transport, asked.id)
        assert made.artifact is not None
        target = _target(path, made.artifact.name)
        return await _fetch(self._transport, made.artifact.id, made.artifact.size, target, shown=progress)

    @method
    async def card(self) -> str:
        """Its model card, in Markdown."""
        return (await self._transport.request("GET", f"/v1/points/{self.id}/card")).text


class PointDetail(Point[M], schemas.PointDetail):
    """A network with the whole record that its checkpoint carries."""


async def _fetch(transport: Transport, artifact_id: str, size: int, target: Path, *, shown: bool | None) -> Path:
    with bars.transfer("downloading", size, shown=shown) as report:
        return await Artifacts.download(Artifacts(transport), artifact_id, target, report)


def _target(path: str | Path | None, name: str) -> Path:
    given = Path(name if path is None else path)
    return given / name if given.is_dir() else given


def _file_name(key: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in key).strip(".-") or "point"
