"""Datasets: create one, send its archive, wait until it is validated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from api.schemas.datasets import Dataset
from paretofit.download import Progress
from paretofit.errors import ApiError, DatasetRejectedError, UnreachableError
from paretofit.pages import items
from paretofit.transport import Patience, Transport, describe, is_passing

_BLOCK = 1 << 18


class Datasets:
    """`client.datasets`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Dataset:
        """A new dataset. One whose source is an upload waits for its archive (`upload`)."""
        response = self._transport.request("POST", "/v1/datasets", json=spec, idempotency_key=idempotency_key)
        return Dataset.model_validate_json(response.content)

    def get(self, dataset_id: str) -> Dataset:
        """A dataset as it is now."""
        return Dataset.model_validate_json(self._transport.request("GET", f"/v1/datasets/{dataset_id}").content)

    def list(self) -> Iterator[Dataset]:
        """The datasets, newest first."""
        return items(self._transport, "/v1/datasets", Dataset)

    def upload(self, dataset_id: str, archive: str | Path, progress: Progress | None = None) -> Dataset:
        """Send an archive; what had arrived before an interruption is not sent again.

        Raises ApiError (413) if it is larger than the service takes, OSError if it cannot be read.
        """
        path = f"/v1/datasets/{dataset_id}/content"
        patience = Patience(self._transport.patience)
        with Path(archive).open("rb") as file:
            size = file.seek(0, SEEK_END)
            arrived, repeated = 0, False
            while True:
                dataset = self.get(dataset_id)
                if repeated and dataset.state not in {"pending", "uploading"}:
                    # It had all arrived; only the answer was lost.
                    return dataset
                start = dataset.uploaded_bytes if dataset.uploaded_bytes <= size else 0
                if start > arrived:
                    patience.renew()
                    arrived = start
                headers = {"Content-Length": str(size - start)}
                if start:
                    headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
                try:
                    with self._transport.stream(
                        "PUT", path, content=_blocks(file, start, size, progress), headers=headers
                    ) as response:
                        return Dataset.model_validate_json(response.read())
                except httpx.TransportError as error:
                    if not patience.wait():
                        raise UnreachableError(self._transport.url, describe(error)) from error
                except ApiError as error:
                    if not (is_passing(error) and patience.wait()):
                        raise
                repeated = True

    def wait(self, dataset_id: str, *, timeout: float | None = None, poll: float = 0.5) -> Dataset:
        """The dataset once it is ready.

        Raises DatasetRejectedError, and TimeoutError after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (dataset := self.get(dataset_id)).state != "ready":
            if dataset.state == "rejected":
                raise DatasetRejectedError(dataset, reasons(dataset))
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"dataset {dataset.name!r} is still {dataset.state} after {timeout:g} s")
            time.sleep(poll)
        return dataset


def _blocks(file: BinaryIO, start: int, size: int, progress: Progress | None) -> Iterator[bytes]:
    file.seek(start)
    while block := file.read(_BLOCK):
        yield block
        if progress is not None:
            progress(file.tell(), size)


def reasons(dataset: Dataset) -> tuple[str, ...]:
    """Why a dataset was rejected, a line each."""
    error = dataset.error or {}
    listed = [str(entry.get("detail") or entry.get("code")) for entry in error.get("errors", ())]
    return tuple(listed or [str(error.get("detail") or error.get("code") or "no reason was recorded")])
