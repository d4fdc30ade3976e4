"""Trained weights: add a file or a named source, wait until it is converted."""

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
    """`client.weights`."""

    @method
    async def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> schemas.Weights:
        """New weights. Those whose source is an upload wait for their file (`upload`)."""
        return await self._transport.read(
            schemas.Weights, "/v1/weights", method="POST", json=spec, idempotency_key=idempotency_key
        )

    @method
    async def get(self, weights_id: str) -> schemas.Weights:
        """Weights as they are now."""
        return await self._transport.read(schemas.Weights, f"/v1/weights/{weights_id}")

    @listing
    def list(self) -> AsyncIterator[schemas.Weights]:
        """The weights, newest first."""
        return items(self._transport, "/v1/weights", schemas.Weights)

    @method
    async def sources(self) -> builtins.list[schemas.WeightsSource]:
        """The published weights that can be added by name."""
        return (await self._transport.read(schemas.WeightsSourceList, "/v1/weights/sources")).data

    @method
    async def delete(self, weights_id: str) -> None:
        """Remove weights. Searches that were submitted with them keep a copy."""
        await self._transport.request("DELETE", f"/v1/weights/{weights_id}")

    @method
    async def upload(self, weights_id: str, file: str | Path, progress: Progress | None = None) -> schemas.Weights:
        """Send a safetensors file; what had arrived before an interruption is not sent again.

        Raises ApiError (413 if it is larger than the service takes, 415 if it is not safetensors), OSError if it cannot
        be read.
        """
        return await uploads.upload(self._transport, schemas.Weights, f"/v1/weights/{weights_id}", Path(file), progress)

    @method
    async def download(self, weights_id: str, path: str | Path, progress: Progress | None = None) -> Path:
        """Write the converted file to `path`. Raises UsageError if the weights are not ready, DigestMismatchError."""
        found = await Weights.get(self, weights_id)
        if found.sha256 is None or found.size is None:
            raise UsageError(f"weights {found.name!r} are {found.state}: only ready ones can be downloaded")
        content = f"/v1/weights/{weights_id}/content"
        return await download(
            self._transport, content, Path(path), sha256=found.sha256, size=found.size, progress=progress
        )

    @method
    async def wait(self, weights_id: str, *, timeout: float | None = None, poll: float = 0.5) -> schemas.Weights:
        """The weights once they are ready.

        Raises WeightsRejectedError, and TimeoutError after `timeout` seconds.
        """
        deadline = Deadline(timeout)
        while (found := await Weights.get(self, weights_id)).state != "ready":
            if found.state == "rejected":
                raise WeightsRejectedError(found)
            deadline.check(f"weights {found.name!r} are still {found.state}")
            await self._transport.sleep(poll)
        return found
