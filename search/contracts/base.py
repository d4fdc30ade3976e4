"""What all contracts are: immutable data that refuses fields it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A frozen pydantic model without extra fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
