"""A JSON schema as the fields of a form. Every input is named by its place in the body, a JSON pointer, so that a
problem of the API finds its input by the pointer that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["number", "integer", "text", "boolean", "choice", "choices", "list", "json", "group"]
Schema = Mapping[str, Any]
_ACRONYMS = frozenset({"ema", "pca"})
_SIMPLE: dict[str, Kind] = {"number": "number", "integer": "integer", "string": "text", "boolean": "boolean"}


@dataclass(frozen=True, slots=True)
class Field:
    """An input, or a group of some. `text` is what it holds and `default` what it means when it is left out, both as
    the input has them; `optional`: it may be left out altogether."""

    pointer: str
    label: str
    help: str
    kind: Kind
    text: str = ""
    default: str = ""
    optional: bool = False
    given: bool = False
    options: tuple[str, ...] = ()
    items: str = ""
    minimum: float | None = None
    maximum: float | None = None
    fields: list[Field] = field(default_factory=list)

    @property
    def id(self) -> str:
        """For HTML."""
        return "field" + self.pointer.replace("/", "-")


def fields(schema: Schema, values: Mapping[str, Any], pointer: str = "") -> list[Field]:
    """The fields of an object's schema, holding `values` where these say something. What has one possible value, or is
    deprecated, is not a field."""
    return _object(schema, schema.get("$defs", {}), {}, values, pointer)


def _object(
    schema: Schema, known: Schema, defaults: Mapping[str, Any], values: Mapping[str, Any], pointer: str
) -> list[Field]:
    found = []
    for name, each in schema.get("properties", {}).items():
        if "const" in each or each.get("deprecated"):
            continue
        default = defaults.get(name, each.get("default"))
        value, place = values.get(name, default), f"{pointer}/{name}"
        found.append(_field(each, known, default, value, given=name in values, pointer=place))
    return found


def _field(schema: Schema, known: Schema, default: Any, value: Any, *, given: bool, pointer: str) -> Field:
    name = pointer.rpartition("/")[2]
    about = {
        "pointer": pointer,
        "label": _label(name),
        "help": schema.get("description", ""),
        "given": given,
    }
    schema, optional = _resolved(schema, known)
    about["optional"] = optional
    kind = _kind(schema)
    if kind == "group":
        inner = _object(schema, known, default or {}, value if isinstance(value, dict) else {}, pointer)
        return Field(**about | {"help": about["help"] or schema.get("description", "")}, kind=kind, fields=inner)
    if kind in ("choice", "choices"):
        options = (schema if kind == "choice" else _resolved(schema["items"], known)[0])["enum"]
        texts = tuple(json.dumps(option) for option in options)
        return Field(**about, kind=kind, options=texts, text=json.dumps(value), default=json.dumps(default))
    return Field(
        **about,
        kind=kind,
        text=_text(value, kind),
        default=_text(default, kind),
        items=_resolved(schema["items"], known)[0]["type"] if kind == "list" else "",
        minimum=schema.get("minimum", schema.get("exclusiveMinimum")),
        maximum=schema.get("maximum", schema.get("exclusiveMaximum")),
    )


def _label(name: str) -> str:
    words = name.capitalize().split("_")
    return " ".join(word.upper() if word.lower() in _ACRONYMS else word for word in words)


def _resolved(schema: Schema, known: Schema) -> tuple[Schema, bool]:
    """The schema behind a reference and beside null, and whether null is allowed."""
    optional = False
    if "anyOf" in schema:
        choices = [each for each in schema["anyOf"] if each.get("type") != "null"]
        optional = len(choices) < len(schema["anyOf"])
        if len(choices) == 1:
            schema = choices[0]
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    return schema, optional


def _kind(schema: Schema) -> Kind:
    if "enum" in schema:
        return "choice"
    if "properties" in schema:
        return "group"
    if schema.get("type") == "array":
        items = schema.get("items", {})
        if "enum" in items:
            return "choices"
        return "list" if items.get("type") in ("integer", "number", "string") else "json"
    return _SIMPLE.get(schema.get("type", ""), "json")


def _text(value: Any, kind: Kind) -> str:
    if value is None:
        return ""
    if kind == "list":
        return ", ".join(str(each) for each in value)
    if kind == "json":
        return json.dumps(value)
    if kind == "boolean":
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
