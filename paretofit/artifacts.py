"""Files that trials made."""

from __future__ import annotations

from pathlib import Path

from api.schemas.artifacts import Artifact
from paretofit.download import Progress, download
from paretofit.transport import Transport


class Artifacts:
    """`client.artifacts`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, artifact_id: str) -> Artifact:
        """What is known of a file: its digest and size."""
        return Artifact.model_validate_json(self._transport.request("GET", f"/v1/artifacts/{artifact_id}").content)

    def download(self, artifact_id: str, path: str | Path, progress: Progress | None = None) -> Path:
        """Write a file's content to `path`: resumed if an earlier download was cut off, checked against its SHA-256.

        Raises DigestMismatchError if the bytes are not what the service says.
        """
        artifact = self.get(artifact_id)
        return download(
            self._transport,
            f"/v1/artifacts/{artifact_id}/content",
            Path(path),
            sha256=artifact.sha256,
            size=artifact.size,
            progress=progress,
        )
