"""Files that trials made."""

from __future__ import annotations

from pathlib import Path

from paretofit.api.schemas.artifacts import Artifact
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, method
from paretofit.client.download import Progress, download


class Artifacts(Resource[M]):
    """`client.artifacts`."""

    @method
    async def get(self, artifact_id: str) -> Artifact:
        """What is known of a file: its digest and size."""
        return await self._transport.read(Artifact, f"/v1/artifacts/{artifact_id}")

    @method
    async def download(self, artifact_id: str, path: str | Path, progress: Progress | None = None) -> Path:
        """Write a file's content to `path`: resumed if an earlier download was cut off, checked against its SHA-256.

        Raises DigestMismatchError if the bytes are not what the service says.
        """
        artifact = await Artifacts.get(self, artifact_id)
        return await download(
            self._transport,
            f"/v1/artifacts/{artifact_id}/content",
            Path(path),
            sha256=artifact.sha256,
            size=artifact.size,
            progress=progress,
        )
