"""Files that trials produced."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from paretofit.api.schemas.base import Response


class Artifact(Response):
    """A file; its bytes are at `/v1/artifacts/{id}/content`."""

    id: str
    search_id: str | None
    trial_id: str | None
    name: str
    sha256: str = Field(description="SHA-256 of the content, hexadecimal; also its ETag.")
    size: int = Field(description="Bytes.")
    media_type: str
    created_at: datetime
