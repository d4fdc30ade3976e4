"""`client.artifacts`: files that trials produced."""

from __future__ import annotations

from pathlib import Path

from paretofit.api.schemas.artifacts import Artifact
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, method
from paretofit.client.download import Progress, download


class Artifacts(Resource[M]):
    """Artifacts by id (`client.artifacts`)."""

    @method
    async def get(self, artifact_id: str) -> Artifact:
        """Read the metadata of a file, such as its SHA-256 and size."""
        return await self._transport.read(Artifact, f"/v1/artifacts/{artifact_id}")

    @method
    async def download(self, artifact_id: str, path: str | Path, progress: Progress | None = None) -> Path:
        """Download a file to `path`. Resumes an interrupted download and verifies the SHA-256.

        Args:
            artifact_id: Id of the artifact.
            path: The file to write.
            progress: Called with the bytes received and the total, in bytes.

        Raises:
            DigestMismatchError: The content does not match its SHA-256.
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
