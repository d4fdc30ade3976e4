"""The fields of a form, from a JSON schema. Every input carries the JSON pointer of its value in the request body, so
that a problem of the API is shown next to the input that caused it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["number", "integer", "text", "boolean", "choice", "choices", "list", "rows", "json", "group"]
Schema = Mapping[str, Any]
_ACRONYMS = frozenset({"ema", "pca"})
_UNITS = {
    "image_size": "px",
    "last_sides": "px",
    "nominal": "px",
    "padding": "px",
    "resolution": "px",
    "resolutions": "px",
    "tile": "px",
}
"""Units of fields whose names do not end with one, as `max_wall_seconds` does."""
_SIMPLE: dict[str, Kind] = {"number": "number", "integer": "integer", "string": "text", "boolean": "boolean"}


@dataclass(frozen=True, slots=True)
class Field:
    """An input, or a group of inputs. `text` is its value and `default` the value that it has when it is left out, both
    as the input shows them. `optional`: it may be unset. `rows`: the inputs of a table, row by row; `fields` are then
    those of an empty row."""

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
    placeholder: str = ""
    fields: list[Field] = field(default_factory=list)
    rows: list[list[Field]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.pointer.rpartition("/")[2]

    @property
    def id(self) -> str:
        """The HTML id."""
        return "field" + self.pointer.replace("/", "-")


def fields(
    schema: Schema, values: Mapping[str, Any], pointer: str = "", offered: Mapping[str, Sequence[str]] | None = None
) -> list[Field]:
    """The fields of an object's schema, filled with `values`. Constants and deprecated properties have none. `offered`
    lists, by the name of a property, texts to choose from where the schema allows any."""
    properties = {
        name: _with_options(each, offered[name], values.get(name)) if offered and name in offered else each
        for name, each in schema.get("properties", {}).items()
    }
    return _object({**schema, "properties": properties}, schema.get("$defs", {}), {}, values, pointer)


def _with_options(schema: Schema, options: Sequence[str], value: Any) -> Schema:
    """A property that takes a text, or a list of texts, as an enumeration of the options and of its present value."""
    present = [value] if isinstance(value, str) else value or []
    enumeration = {"enum": list(dict.fromkeys([*options, *present]))}
    inner, optional = _resolved(schema, {})
    inner = {**inner, "items": enumeration} if inner.get("type") == "array" else enumeration
    return {**schema, "anyOf": [inner, {"type": "null"}]} if optional else {**schema, **inner}


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
    kind = _kind(schema, known)
    if kind == "rows":
        item = _resolved(schema["items"], known)[0]
        rows = [_object(item, known, {}, row, pointer) for row in value or ()]
        return Field(**about, kind=kind, fields=_object(item, known, {}, {}, pointer), rows=rows)
    if kind == "group":
        inner = _object(schema, known, default or {}, value if isinstance(value, dict) else {}, pointer)
        return Field(**about | {"help": about["help"] or schema.get("description", "")}, kind=kind, fields=inner)
    if kind in ("choice", "choices"):
        options = (schema if kind == "choice" else _items(schema, known))["enum"]
        texts = tuple(json.dumps(option) for option in options)
        return Field(**about, kind=kind, options=texts, text=json.dumps(value), default=json.dumps(default))
    return Field(
        **about,
        kind=kind,
        text=_text(value, kind),
        default=_text(default, kind),
        items=_items(schema, known)["type"] if kind == "list" else "",
        placeholder="unset" if optional else "",
        minimum=schema.get("minimum", schema.get("exclusiveMinimum")),
        maximum=schema.get("maximum", schema.get("exclusiveMaximum")),
    )


def _label(name: str) -> str:
    """The label of a field: `max_wall_seconds` as Max wall time (s)."""
    unit = "s" if name.endswith("_seconds") else _UNITS.get(name)
    words = name.replace("_seconds", "_time").capitalize().split("_")
    label = " ".join(word.upper() if word.lower() in _ACRONYMS else word for word in words)
    return f"{label} ({unit})" if unit else label


def _resolved(schema: Schema, known: Schema) -> tuple[Schema, bool]:
    """The schema without references and null, and whether null is allowed."""
    optional = False
    if "anyOf" in schema:
        choices = [each for each in schema["anyOf"] if each.get("type") != "null"]
        optional = len(choices) < len(schema["anyOf"])
        if len(choices) == 1:
            schema = choices[0]
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    return schema, optional


def _kind(schema: Schema, known: Schema) -> Kind:
    if "enum" in schema:
        return "choice"
    if "properties" in schema:
        return "group"
    if schema.get("type") == "array":
        items = _items(schema, known)
        if "enum" in items:
            return "choices"
        columns = items.get("properties", {}).values()
        if columns and all(each.get("type") in ("integer", "number") for each in columns):
            return "rows"
        return "list" if items.get("type") in ("integer", "number", "string") else "json"
    return _SIMPLE.get(schema.get("type", ""), "json")


def _items(schema: Schema, known: Schema) -> Schema:
    """The schema of an array's items; of a tuple, that of the first, as the others have the same type."""
    first, *_ = schema.get("prefixItems") or [schema.get("items", {})]
    return _resolved(first, known)[0]


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
