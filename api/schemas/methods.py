"""The methods and families that this service offers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from paretofit.api.schemas.base import Response
from paretofit.api.schemas.exports import Format


class Method(Response):
    """A kind of search."""

    kind: str
    summary: str
    paper: str
    exports: list[Format] = Field(description="What its points can be exported as.")
    presets: dict[str, dict[str, Any]] = Field(description="Named parameters to start from; `tiny` takes seconds.")
    takes_start: bool = Field(description="Whether its networks can start from trained weights (`start`).")


class MethodList(Response):
    data: list[Method]


class Family(Response):
    """A table of networks that methods build on."""

    name: str
    title: str
    paper: str
    pattern: str = Field(description="Regular expression of the names that are accepted, such as `wrn_28_10`.")
    stages: int = Field(description="How many widths a network with shared weights may have; 0: none is made of it.")
    groups: list[int] = Field(description="Of its grouped convolutions, what may be chosen; empty: nothing.")
    sources: list[str] = Field(description="Named sources of trained weights that fit it (`GET /v1/weights/sources`).")


class FamilyList(Response):
    data: list[Family]
