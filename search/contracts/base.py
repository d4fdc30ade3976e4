"""Base class of all contracts: immutable data that rejects unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A frozen pydantic model without extra fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
