"""Trained weights."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from paretofit.api.schemas.base import Response

WeightsState = Literal["pending", "uploading", "converting", "ready", "rejected"]


class Weights(Response):
    """Trained weights and the state of their conversion."""

    id: str
    name: str
    state: WeightsState
    source: dict[str, Any] = Field(description="As submitted; an upload's has `sha256` and `size` once it is complete.")
    options: dict[str, Any] = Field(description="The options as submitted.")
    uploaded_bytes: int = Field(
        description="Bytes of the file received so far: the offset at which an upload continues."
    )
    record: dict[str, Any] | None = Field(
        description="Once ready: family, width, channels, nominal, classes, mean, std, layout, source, sha256 (of the "
        "original file), `licence`, the number of dropped tensors and the first of them, notes."
    )
    sha256: str | None = Field(description="SHA-256 of the converted file, once ready.")
    size: int | None = Field(description="Size of the converted file, bytes.")
    error: dict[str, Any] | None = Field(description="Why they were rejected: {code, detail}.")
    created_at: datetime
    updated_at: datetime


class WeightsSource(Response):
    """Published weights that can be added by name."""

    name: str
    family: str
    width: float
    licence: str
    title: str = Field(description="What the weights are and where they come from.")
    enabled: bool = Field(description="Whether this service fetches them (PARETOFIT_WEIGHTS_SOURCES).")


class WeightsSourceList(Response):
    data: list[WeightsSource]
