"""The methods and families that this service offers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response
from paretofit.api.schemas.exports import Format


class Method(Response):
    """A search method."""

    kind: str
    summary: str
    paper: str
    exports: list[Format] = Field(description="Export formats of its points.")
    presets: dict[str, dict[str, Any]] = Field(
        description="Parameters by the name of the preset; `tiny` takes seconds."
    )
    takes_start: bool = Field(description="Whether its networks can start from trained weights (`start`).")


class MethodList(Response):
    data: list[Method]


class Family(Response):
    """A family of networks that methods build on."""

    name: str
    title: str
    paper: str
    pattern: str = Field(description="Regular expression of the names that are accepted, such as `wrn_28_10`.")
    stages: int = Field(description="Number of independent widths in a network with shared weights; 0: not supported.")
    groups: list[int] = Field(description="Group counts to choose from; empty: no choice.")
    sources: list[str] = Field(description="Named sources of trained weights that fit it (`GET /v1/weights/sources`).")


class FamilyList(Response):
    data: list[Family]
