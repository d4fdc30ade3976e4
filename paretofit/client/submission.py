"""Keyword arguments of a new search. The service validates them and fills in defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict


class SearchFields(TypedDict, total=False):
    """The fields of a search specification."""

    name: str
    dataset_id: str
    task: str
    method: Mapping[str, Any]
    objectives: Sequence[Mapping[str, Any]]
    constraints: Sequence[Mapping[str, Any]]
    limits: Mapping[str, Any]
    seed: int
    priority: int
    labels: Mapping[str, str]
