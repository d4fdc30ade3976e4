"""Forms generated from JSON schemas."""

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
        "schedule": {"enum": ["cosine", "step"], "default": "cosine"},
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


def flatten(form: list[Field]) -> Iterator[Field]:
    for each in form:
        yield each
        yield from flatten(each.fields)


def test_fields_have_the_kinds_and_defaults_of_the_schema() -> None:
    by_pointer = {each.pointer: each for each in flatten(fields(SCHEMA, {}, "/method"))}
    assert {pointer: each.kind for pointer, each in by_pointer.items()} == {
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
    assert by_pointer["/method/epochs"].text == by_pointer["/method/epochs"].default == "20"
    assert by_pointer["/method/epochs"].minimum == 0
    assert by_pointer["/method/flag"].text == "true"
    assert by_pointer["/method/schedule"].options == ('"cosine"', '"step"')
    assert by_pointer["/method/sides"].text == ""
    assert by_pointer["/method/sides"].items == "integer"
    assert by_pointer["/method/inner/low"].default == "0.25"
    assert by_pointer["/method/maybe"].optional
    assert not by_pointer["/method/maybe"].given
    assert by_pointer["/method/maybe/low"].default == "0.5"


def test_text_with_known_values_becomes_a_choice() -> None:
    offered = {"family": ["a", "b"], "families": ["a", "b"]}
    values = {"family": "other", "families": ["b"]}
    by_name = {each.name: each for each in fields(SCHEMA, values, offered=offered)}
    assert (by_name["family"].kind, by_name["family"].optional) == ("choice", True)
    assert by_name["family"].options == ('"a"', '"b"', '"other"')
    assert by_name["family"].text == '"other"'
    assert (by_name["families"].kind, by_name["families"].text) == ("choices", '["b"]')


def test_table_has_a_row_for_each_item() -> None:
    table = {each.name: each for each in fields(SCHEMA, {"rows": [{"n": 1}, {"n": 2}]})}["rows"]
    assert [[each.text for each in row] for row in table.rows] == [["1"], ["2"]]
    assert [each.name for each in table.fields] == ["n"]


def test_labels_have_units() -> None:
    names = ("max_wall_seconds", "resolutions", "ema_decay")
    form = fields({"properties": {name: {"type": "number"} for name in names}}, {})
    assert [each.label for each in form] == ["Max wall time (s)", "Resolutions (px)", "EMA decay"]


def test_values_fill_the_inputs_and_leave_the_defaults() -> None:
    values = {"epochs": 3, "sides": [32, 24], "inner": {"low": 1.0}, "maybe": {"low": 0}, "some": ["b"]}
    by_pointer = {each.pointer: each for each in flatten(fields(SCHEMA, values))}
    assert (by_pointer["/epochs"].text, by_pointer["/epochs"].default) == ("3", "20")
    assert by_pointer["/sides"].text == "32, 24"
    assert (by_pointer["/inner/low"].text, by_pointer["/inner/low"].default) == ("1", "0.25")
    assert by_pointer["/maybe"].given
    assert json.loads(by_pointer["/some"].text) == ["b"]


@pytest.mark.parametrize("kind", sorted(methods()))
def test_every_method_and_preset_has_a_form(kind: str) -> None:
    params = methods()[kind].params
    for preset in ({}, params.tiny, *params.presets.values()):
        form = list(flatten(fields(params.model_json_schema(), preset, "/method")))
        assert len({each.pointer for each in form}) == len(form)
        assert all(each.help for each in form if each.kind != "group"), "every parameter needs a help text"
        assert not [each.pointer for each in form if each.kind == "json"], "no parameter may require JSON"
        assert len(form) >= len(params.model_fields) - 1


def test_limits_have_a_form() -> None:
    form = fields(Limits.model_json_schema(), {})
    assert form[0].label == "Max trials"
    assert all(each.help for each in form)
