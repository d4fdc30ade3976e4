"""`client.weights`: add trained weights from a file or a named source, wait for conversion."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from paretofit.api.schemas import weights as schemas
from paretofit.client import uploads
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.download import Progress, download
from paretofit.client.errors import UsageError, WeightsRejectedError
from paretofit.client.following import Deadline
from paretofit.client.pages import items


class Weights(Resource[M]):
    """Trained weights by id (`client.weights`)."""

    @method
    async def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> schemas.Weights:
        """Create weights.

        Args:
            spec: Name, `source` and options. With the source `{"kind": "upload"}`, call `upload` next.
            idempotency_key: Your own key, to repeat the request safely from another process.
        """
        return await self._transport.read(
            schemas.Weights, "/v1/weights", method="POST", json=spec, idempotency_key=idempotency_key
        )

    @method
    async def get(self, weights_id: str) -> schemas.Weights:
        """Read weights."""
        return await self._transport.read(schemas.Weights, f"/v1/weights/{weights_id}")

    @listing
    def list(self) -> AsyncIterator[schemas.Weights]:
        """List weights, newest first."""
        return items(self._transport, "/v1/weights", schemas.Weights)

    @method
    async def sources(self) -> builtins.list[schemas.WeightsSource]:
        """List the published weights that can be added by name."""
        return (await self._transport.read(schemas.WeightsSourceList, "/v1/weights/sources")).data

    @method
    async def delete(self, weights_id: str) -> None:
        """Delete weights. Searches that use them keep a copy."""
        await self._transport.request("DELETE", f"/v1/weights/{weights_id}")

    @method
    async def upload(self, weights_id: str, file: str | Path, progress: Progress | None = None) -> schemas.Weights:
        """Upload a safetensors file. A retried upload continues where it stopped.

        Args:
            weights_id: Id of the weights.
            file: The safetensors file.
            progress: Called with the bytes sent and the total, in bytes.

        Raises:
            ApiError: The file exceeds the upload limit (413) or is not safetensors (415).
            OSError: The file cannot be read.
        """
        return await uploads.upload(self._transport, schemas.Weights, f"/v1/weights/{weights_id}", Path(file), progress)

    @method
    async def download(self, weights_id: str, path: str | Path, progress: Progress | None = None) -> Path:
        """Download the converted file to `path`.

        Raises:
            UsageError: The weights are not ready.
            DigestMismatchError: The content does not match its SHA-256.
        """
        weights = await Weights.get(self, weights_id)
        if weights.sha256 is None or weights.size is None:
            raise UsageError(f"weights {weights.name!r} are {weights.state}; wait until they are ready")
        content = f"/v1/weights/{weights_id}/content"
        return await download(
            self._transport, content, Path(path), sha256=weights.sha256, size=weights.size, progress=progress
        )

    @method
    async def wait(self, weights_id: str, *, timeout: float | None = None, poll: float = 0.5) -> schemas.Weights:
        """Wait until weights are ready.

        Raises:
            WeightsRejectedError: The weights could not be fetched or converted.
            TimeoutError: The weights are not ready after `timeout` seconds.
        """
        deadline = Deadline(timeout)
        while (weights := await Weights.get(self, weights_id)).state != "ready":
            if weights.state == "rejected":
                raise WeightsRejectedError(weights)
            deadline.check(f"weights {weights.name!r} are still {weights.state}")
            await self._transport.sleep(poll)
        return weights
