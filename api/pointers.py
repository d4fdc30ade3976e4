"""From pydantic's errors to JSON pointers (RFC 6901) into the request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from paretofit.api.schemas.problems import FieldProblem
from paretofit.core.formatting import round_decimals


def field_problems(errors: Sequence[Mapping[str, Any]], body: object) -> list[FieldProblem]:
    """One entry per error of pydantic: `/field/0` in the body, `?name` in the query, or the name of a header."""
    return [_field_problem(error, body) for error in errors if not _follows(error, errors)]


def pointer(path: Sequence[str | int]) -> str:
    """The JSON pointer of a path; empty for the whole document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def paths_to(text: str, document: object) -> Iterator[list[str | int]]:
    """Paths of the strings in a document that contain `text`, including names of fields."""
    parts: Iterable[tuple[str | int, object]] = ()
    match document:
        case str() if text in document:
            yield []
        case dict():
            yield from ([name] for name in document if text in name)
            parts = document.items()
        case list():
            parts = enumerate(document)
    for part, inner in parts:
        yield from ([part, *path] for path in paths_to(text, inner))


def _follows(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a list is too short only because its invalid items were not counted."""
    place = tuple(error["loc"])
    within = (tuple(each["loc"]) for each in errors if each is not error)
    return error["type"] == "too_short" and any(each[: len(place)] == place for each in within)


def _field_problem(error: Mapping[str, Any], body: object) -> FieldProblem:
    place, *path = error["loc"]
    if place == "query":
        return FieldProblem(pointer=f"?{path[0]}", detail=_detail(error))
    if place != "body":
        return FieldProblem(pointer=str(path[0]) if path else "", detail=_detail(error))
    if error["type"] == "json_invalid":
        return FieldProblem(pointer="", detail=f"invalid JSON: {error['ctx']['error']} at character {path[0]}")
    kept = _in_document(path, body, error["type"])
    if error["type"].startswith("union_tag"):
        kept.append(error["ctx"]["discriminator"].strip("'"))
    return FieldProblem(pointer=pointer(kept), detail=_detail(error))


def _in_document(path: Sequence[str | int], body: object, kind: str) -> list[str | int]:
    """`path` without pydantic's additions: the tags of discriminated unions and its notes on keys."""
    kept: list[str | int] = []
    at: Any = body
    for index, part in enumerate(path):
        if isinstance(at, list):
            within = isinstance(part, int) and part < len(at)
        else:
            within = isinstance(at, Mapping) and part in at
        if within:
            at = at[part]
        if within or (kind == "missing" and index == len(path) - 1):
            kept.append(part)
    return kept


def _detail(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return "unknown field: check its name, or remove it (/openapi.json and /v1/methods list the fields)"
        case "union_tag_invalid":
            return f"{context['tag']!r} is not one of {context['expected_tags']}"
        case "union_tag_not_found":
            return "missing: it selects one of the alternatives"
        case "missing":
            return "missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be an object of fields, {{...}}, not {round_decimals(repr(error['input']))[:100]}"
        case "value_error":
            return str(context.get("error", error["msg"]))
        case _:
            return str(error["msg"])
