"""`client.datasets`: create datasets, upload archives, wait for validation, read the joint front of their searches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from paretofit.api.schemas import datasets as schemas
from paretofit.api.schemas.points import Cost
from paretofit.client import fronts, uploads
from paretofit.client.api_object import ApiObject, Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.download import Progress
from paretofit.client.errors import DatasetRejectedError
from paretofit.client.following import Deadline
from paretofit.client.fronts import DatasetFront
from paretofit.client.pages import items


class Dataset(ApiObject[M], schemas.Dataset):
    """A dataset in the state that the service last reported."""

    @method
    async def front(self, *, x: Cost = "macs", device: str | None = None, dominated: bool = False) -> DatasetFront[M]:
        """Read the best known networks for it: the joint Pareto front of all its searches.

        Args:
            x: The cost axis, such as `macs` or `latency_ms`.
            device: The device of `latency_ms`; may be omitted if the searches have exactly one.
            dominated: Also return the dominated points.
        """
        return await fronts.read_joint(self._transport, self.id, x=x, device=device, dominated=dominated)


class Datasets(Resource[M]):
    """Datasets by id (`client.datasets`)."""

    @method
    async def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Dataset[M]:
        """Create a dataset.

        Args:
            spec: Name, `source` and options. With the source `{"kind": "upload"}`, call `upload` next.
            idempotency_key: Your own key, to repeat the request safely from another process.
        """
        return await self._transport.read(
            Dataset[M], "/v1/datasets", method="POST", json=spec, idempotency_key=idempotency_key
        )

    @method
    async def get(self, dataset_id: str) -> Dataset[M]:
        """Read a dataset."""
        return await self._transport.read(Dataset[M], f"/v1/datasets/{dataset_id}")

    @method
    async def front(
        self, dataset_id: str, *, x: Cost = "macs", device: str | None = None, dominated: bool = False
    ) -> DatasetFront[M]:
        """Read the best known networks for a dataset: the joint Pareto front of all its searches.

        Args:
            dataset_id: Id of the dataset.
            x: The cost axis, such as `macs` or `latency_ms`.
            device: The device of `latency_ms`; may be omitted if the searches have exactly one.
            dominated: Also return the dominated points.
        """
        return await fronts.read_joint(self._transport, dataset_id, x=x, device=device, dominated=dominated)

    @listing
    def list(self) -> AsyncIterator[Dataset[M]]:
        """List datasets, newest first."""
        return items(self._transport, "/v1/datasets", Dataset[M])

    @method
    async def delete(self, dataset_id: str) -> None:
        """Delete a dataset that no search uses."""
        await self._transport.request("DELETE", f"/v1/datasets/{dataset_id}")

    @method
    async def upload(self, dataset_id: str, archive: str | Path, progress: Progress | None = None) -> Dataset[M]:
        """Upload the archive of a dataset. A retried upload continues where it stopped.

        Args:
            dataset_id: Id of the dataset.
            archive: A zip or tar file.
            progress: Called with the bytes sent and the total, in bytes.

        Raises:
            ApiError: The file exceeds the upload limit of the service (413).
            OSError: The file cannot be read.
        """
        return await uploads.upload(self._transport, Dataset[M], f"/v1/datasets/{dataset_id}", Path(archive), progress)

    @method
    async def wait(self, dataset_id: str, *, timeout: float | None = None, poll: float = 0.5) -> Dataset[M]:
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


def reasons(dataset: schemas.Dataset) -> tuple[str, ...]:
    """The reasons for which a dataset was rejected."""
    error = dataset.error or {}
    listed = [str(entry.get("detail") or entry.get("code")) for entry in error.get("errors", ())]
    return tuple(listed or [str(error.get("detail") or error.get("code") or "no reason was recorded")])
