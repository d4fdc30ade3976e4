"""Search specifications in YAML or JSON, with names in place of ids."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from paretofit.cli import references
from paretofit.client.client import Client
from paretofit.client.errors import UsageError


def read(source: str) -> dict[str, Any]:
    """Read the specification from a file, or from stdin if `source` is `-`. Raises UsageError."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; give a YAML or JSON file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not a text file; give a YAML or JSON file") from error
    try:
        spec = yaml.safe_load(text)  # JSON is valid YAML
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not valid YAML or JSON:\n{error}") from error
    if not isinstance(spec, dict):
        raise UsageError(f"{source} is not a mapping; write fields such as name, dataset and method")
    if source != "-":
        spec.setdefault("name", Path(source).stem)
    return spec


def resolve(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Replace references with ids: `dataset` (a name or shortened id) becomes `dataset_id`, and `start.point` given as
    SEARCH:POINT becomes the id of the point."""
    spec = _with_point(client, spec)
    if "dataset" not in spec:
        return spec
    if "dataset_id" in spec:
        raise UsageError("the specification has both `dataset` and `dataset_id`; remove one")
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
