"""A form from a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from paretofit.api.pages.forms import Field, fields
from paretofit.search.contracts.spec import Limits
from paretofit.search.registry import methods

SCHEMA: dict[str, Any] = {
    "$defs": {
        "Inner": {"properties": {"low": {"type": "number", "default": 0.5, "minimum": 0, "maximum": 1}}},
        "Row": {"properties": {"n": {"type": "integer"}}},
    },
    "properties": {
        "kind": {"const": "example"},
        "epochs": {"type": "integer", "default": 20, "exclusiveMinimum": 0, "description": "How often."},
        "flag": {"type": "boolean", "default": True},
        "schedule": {"enum": ["cosine", "thirds"], "default": "cosine"},
        "sides": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}], "default": None},
        "rows": {"type": "array", "items": {"$ref": "#/$defs/Row"}, "default": []},
        "bounds": {"type": "array", "prefixItems": [{"type": "number"}] * 2, "default": [0.2, 0.7]},
        "family": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "families": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
        "any": {"type": "array", "items": {"type": "object"}, "default": []},
        "some": {"type": "array", "items": {"enum": ["a", "b"]}, "default": []},
        "inner": {"$ref": "#/$defs/Inner", "default": {"low": 0.25}},
        "maybe": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}], "default": None},
    },
}


def every(found: list[Field]) -> Iterator[Field]:
    for each in found:
        yield each
        yield from every(each.fields)


def test_fields_have_the_schema_s_kinds_and_defaults() -> None:
    found = {each.pointer: each for each in every(fields(SCHEMA, {}, "/method"))}
    assert {pointer: each.kind for pointer, each in found.items()} == {
        "/method/epochs": "integer",
        "/method/flag": "boolean",
        "/method/schedule": "choice",
        "/method/sides": "list",
        "/method/rows": "rows",
        "/method/rows/n": "integer",
        "/method/bounds": "list",
        "/method/family": "text",
        "/method/families": "list",
        "/method/any": "json",
        "/method/some": "choices",
        "/method/inner": "group",
        "/method/inner/low": "number",
        "/method/maybe": "group",
        "/method/maybe/low": "number",
    }
    assert found["/method/epochs"].text == found["/method/epochs"].default == "20"
    assert found["/method/epochs"].minimum == 0
    assert found["/method/flag"].text == "true"
    assert found["/method/schedule"].options == ('"cosine"', '"thirds"')
    assert found["/method/sides"].text == ""
    assert found["/method/sides"].items == "integer"
    assert found["/method/inner/low"].default == "0.25"
    assert found["/method/maybe"].optional
    assert not found["/method/maybe"].given
    assert found["/method/maybe/low"].default == "0.5"


def test_texts_with_known_values_are_chosen() -> None:
    offered = {"family": ["a", "b"], "families": ["a", "b"]}
    values = {"family": "other", "families": ["b"]}
    found = {each.name: each for each in fields(SCHEMA, values, offered=offered)}
    assert (found["family"].kind, found["family"].optional) == ("choice", True)
    assert found["family"].options == ('"a"', '"b"', '"other"')
    assert found["family"].text == '"other"'
    assert (found["families"].kind, found["families"].text) == ("choices", '["b"]')


def test_a_table_has_a_row_for_each_item() -> None:
    found = {each.name: each for each in fields(SCHEMA, {"rows": [{"n": 1}, {"n": 2}]})}["rows"]
    assert [[each.text for each in row] for row in found.rows] == [["1"], ["2"]]
    assert [each.name for each in found.fields] == ["n"]


def test_labels_have_units() -> None:
    names = ("max_wall_seconds", "resolutions", "ema_decay")
    found = fields({"properties": {name: {"type": "number"} for name in names}}, {})
    assert [each.label for each in found] == ["Max wall time (s)", "Resolutions (px)", "EMA decay"]


def test_values_fill_the_inputs_and_leave_the_defaults() -> None:
    values = {"epochs": 3, "sides": [32, 24], "inner": {"low": 1.0}, "maybe": {"low": 0}, "some": ["b"]}
    found = {each.pointer: each for each in every(fields(SCHEMA, values))}
    assert (found["/epochs"].text, found["/epochs"].default) == ("3", "20")
    assert found["/sides"].text == "32, 24"
    assert (found["/inner/low"].text, found["/inner/low"].default) == ("1", "0.25")
    assert found["/maybe"].given
    assert json.loads(found["/some"].text) == ["b"]


@pytest.mark.parametrize("kind", sorted(methods()))
def test_every_method_and_preset_has_a_form(kind: str) -> None:
    params = methods()[kind].params
    for preset in ({}, params.tiny, *params.presets.values()):
        found = list(every(fields(params.model_json_schema(), preset, "/method")))
        assert len({each.pointer for each in found}) == len(found)
        assert all(each.help for each in found if each.kind != "group"), "every parameter says what it is"
        assert not [each.pointer for each in found if each.kind == "json"], "nobody types JSON"
        assert len(found) >= len(params.model_fields) - 1


def test_limits_have_one_too() -> None:
    found = fields(Limits.model_json_schema(), {})
    assert found[0].label == "Max trials"
    assert all(each.help for each in found)
