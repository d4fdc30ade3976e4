"""Datasets: create one, send its archive, wait until it is validated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from paretofit.api.schemas.datasets import Dataset
from paretofit.client import uploads
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.download import Progress
from paretofit.client.errors import DatasetRejectedError
from paretofit.client.following import Deadline
from paretofit.client.pages import items


class Datasets(Resource[M]):
    """`client.datasets`."""

    @method
    async def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Dataset:
        """A new dataset. One whose source is an upload waits for its archive (`upload`)."""
        return await self._transport.read(
            Dataset, "/v1/datasets", method="POST", json=spec, idempotency_key=idempotency_key
        )

    @method
    async def get(self, dataset_id: str) -> Dataset:
        """A dataset as it is now."""
        return await self._transport.read(Dataset, f"/v1/datasets/{dataset_id}")

    @listing
    def list(self) -> AsyncIterator[Dataset]:
        """The datasets, newest first."""
        return items(self._transport, "/v1/datasets", Dataset)

    @method
    async def delete(self, dataset_id: str) -> None:
        """Remove a dataset that no search uses."""
        await self._transport.request("DELETE", f"/v1/datasets/{dataset_id}")

    @method
    async def upload(self, dataset_id: str, archive: str | Path, progress: Progress | None = None) -> Dataset:
        """Send an archive; what had arrived before an interruption is not sent again.

        Raises ApiError (413) if it is larger than the service takes, OSError if it cannot be read.
        """
        return await uploads.upload(self._transport, Dataset, f"/v1/datasets/{dataset_id}", Path(archive), progress)

    @method
    async def wait(self, dataset_id: str, *, timeout: float | None = None, poll: float = 0.5) -> Dataset:
        """The dataset once it is ready.

        Raises DatasetRejectedError, and TimeoutError after `timeout` seconds.
        """
        deadline = Deadline(timeout)
        while (dataset := await Datasets.get(self, dataset_id)).state != "ready":
            if dataset.state == "rejected":
                raise DatasetRejectedError(dataset, reasons(dataset))
            deadline.check(f"dataset {dataset.name!r} is still {dataset.state}")
            await self._transport.sleep(poll)
        return dataset


def reasons(dataset: Dataset) -> tuple[str, ...]:
    """Why a dataset was rejected, a line each."""
    error = dataset.error or {}
    listed = [str(entry.get("detail") or entry.get("code")) for entry in error.get("errors", ())]
    return tuple(listed or [str(error.get("detail") or error.get("code") or "no reason was recorded")])
