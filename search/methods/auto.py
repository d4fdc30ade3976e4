"""Parameters that the service chooses where the user leaves them out. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")

UNSET: Any = None
"""Default of a parameter that is left to the service."""


def is_unset(value: object) -> bool:
    """Whether the choice is left to the service. By this function, because the type of an `Auto` field is the resolved
    one."""
    return value is None


class _Nullable:
    """Lets `None` pass: it stands for the choice that `MethodParams.resolved` makes."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.nullable_schema(handler(source))


Auto = Annotated[T, _Nullable()]
"""`Auto[int]`: an int in every resolved specification, `None` in a submitted one that leaves the choice to the service.

Planning, training and the cost model see resolved specifications only, so that the type is the resolved one."""
