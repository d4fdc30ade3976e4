"""Specifications as people write them: YAML or JSON, with a dataset's name in place of its id."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from paretofit.cli import references
from paretofit.client.client import Client
from paretofit.client.errors import UsageError


def read(source: str) -> dict[str, Any]:
    """The specification in a file, or on stdin if `source` is `-`. Raises UsageError. JSON is YAML too."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not a text file") from error
    try:
        spec = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is neither YAML nor JSON:\n{error}") from error
    if not isinstance(spec, dict):
        raise UsageError(f"{source} must hold fields such as name, dataset and method")
    if source != "-":
        spec.setdefault("name", Path(source).stem)
    return spec


def resolve(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    """The specification as the service takes it: `dataset` (a name or a shortened id) becomes `dataset_id`, a start's
    point that is given as SEARCH:POINT its id."""
    spec = _with_point(client, spec)
    if "dataset" not in spec:
        return spec
    if "dataset_id" in spec:
        raise UsageError("the specification names both `dataset` and `dataset_id`: keep one")
    resolved = dict(spec)
    resolved["dataset_id"] = references.dataset_id(client, str(resolved.pop("dataset")))
    return resolved


def _with_point(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    method = spec.get("method")
    if not isinstance(method, dict) or not isinstance(start := method.get("start"), dict):
        return spec
    point = start.get("point")
    if not isinstance(point, str) or ":" not in point:
        return spec
    return {**spec, "method": {**method, "start": {**start, "point": references.point_id(client, point)}}}
