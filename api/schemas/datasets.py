"""Datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from paretofit.api.schemas.base import Response

DatasetState = Literal["pending", "uploading", "validating", "ready", "rejected"]


class Dataset(Response):
    """A dataset and the state of its validation."""

    id: str
    name: str
    state: DatasetState
    source: dict[str, Any] = Field(description="As submitted; an upload's has `sha256` and `size` once it is complete.")
    options: dict[str, Any] = Field(description="format, image_size, splits, seed: as submitted.")
    uploaded_bytes: int = Field(
        description="Bytes of the archive received so far: the offset at which an upload continues."
    )
    profile: dict[str, Any] | None = Field(description="Once ready: classes, channels, image_size, images, mean, std.")
    report: dict[str, Any] | None = Field(
        description="Validation report: counts, sizes, corrupt files, duplicates; null in lists of datasets."
    )
    fingerprint: str | None
    error: dict[str, Any] | None = Field(description="Why it was rejected.")
    created_at: datetime
    updated_at: datetime
