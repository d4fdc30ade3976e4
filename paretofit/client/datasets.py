"""`client.datasets`: create datasets, upload archives, wait for validation."""

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
    """Datasets by id (`client.datasets`)."""

    @method
    async def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Dataset:
        """Create a dataset.

        Args:
            spec: Name, `source` and options. With the source `{"kind": "upload"}`, call `upload` next.
            idempotency_key: Your own key, to repeat the request safely from another process.
        """
        return await self._transport.read(
            Dataset, "/v1/datasets", method="POST", json=spec, idempotency_key=idempotency_key
        )

    @method
    async def get(self, dataset_id: str) -> Dataset:
        """Read a dataset."""
        return await self._transport.read(Dataset, f"/v1/datasets/{dataset_id}")

    @listing
    def list(self) -> AsyncIterator[Dataset]:
        """List datasets, newest first."""
        return items(self._transport, "/v1/datasets", Dataset)

    @method
    async def delete(self, dataset_id: str) -> None:
        """Delete a dataset that no search uses."""
        await self._transport.request("DELETE", f"/v1/datasets/{dataset_id}")

    @method
    async def upload(self, dataset_id: str, archive: str | Path, progress: Progress | None = None) -> Dataset:
        """Upload the archive of a dataset. A retried upload continues where it stopped.

        Args:
            dataset_id: Id of the dataset.
            archive: A zip or tar file.
            progress: Called with the bytes sent and the total, in bytes.

        Raises:
            ApiError: The file exceeds the upload limit of the service (413).
            OSError: The file cannot be read.
        """
        return await uploads.upload(self._transport, Dataset, f"/v1/datasets/{dataset_id}", Path(archive), progress)

    @method
    async def wait(self, dataset_id: str, *, timeout: float | None = None, poll: float = 0.5) -> Dataset:
        """Wait until a dataset is ready.

        Raises:
            DatasetRejectedError: Validation rejected the dataset.
            TimeoutError: The dataset is not ready after `timeout` seconds.
        """
        deadline = Deadline(timeout)
        while (dataset := await Datasets.get(self, dataset_id)).state != "ready":
            if dataset.state == "rejected":
                raise DatasetRejectedError(dataset, reasons(dataset))
            deadline.check(f"dataset {dataset.name!r} is still {dataset.state}")
            await self._transport.sleep(poll)
        return dataset


def reasons(dataset: Dataset) -> tuple[str, ...]:
    """The reasons for which a dataset was rejected."""
    error = dataset.error or {}
    listed = [str(entry.get("detail") or entry.get("code")) for entry in error.get("errors", ())]
    return tuple(listed or [str(error.get("detail") or error.get("code") or "no reason was recorded")])
