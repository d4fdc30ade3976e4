"""The parameters of all methods in Markdown, generated from their pydantic models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from paretofit.search.registry import Method, methods

FOLDER: Final = Path(__file__).parent


def overview() -> str:
    """A table of all methods with summary, paper and page."""
    rows = [
        f"| [`{kind}`](#{kind}) | {_page(method)} | {_cell(method.params.summary)} | {_cell(method.params.paper)} |"
        for kind, method in methods().items()
    ]
    return "\n".join(["| Method | Page | Summary | Paper |", "|---|---|---|---|", *rows])


def sections() -> str:
    """A section per method with its presets, its parameters and their nested objects."""
    return "\n\n".join("\n".join(_section(kind, method)) for kind, method in methods().items())


def _section(kind: str, method: Method) -> Iterator[str]:
    schema = method.params.model_json_schema()
    definitions = schema.get("$defs", {})
    presets = {"tiny": method.params.tiny, **method.params.presets}
    yield f"### {kind}\n"
    yield f"{method.params.summary} {method.params.paper}\n"
    yield f"Presets: {', '.join(f'`{name}`' for name in presets)}.\n"
    yield from table(schema, anchor=kind)
    for name, definition in definitions.items():
        if "properties" in definition:
            yield f'\n<a id="{kind}-{name.lower()}"></a>**{name}** {_cell(definition.get("description", ""))}\n'
            yield from table(definition, anchor=kind)


def table(schema: Mapping[str, Any], anchor: str) -> Iterator[str]:
    """A table of the properties of an object; references link to `#ANCHOR-name`."""
    yield "| Field | Type | Default | Description |"
    yield "|---|---|---|---|"
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        if name == "kind" and "const" in field:
            continue
        default = "(required)" if name in required else f"`{_short(field['default'])}`" if "default" in field else ""
        meaning = " ".join(filter(None, (field.get("description", ""), _range(field))))
        yield f"| `{name}` | {type_name(field, anchor)} | {default} | {_cell(meaning)} |"


def type_name(field: Mapping[str, Any], anchor: str) -> str:
    """The type of a field as Markdown."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f"[{name}](#{anchor}-{name.lower()})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    for several in ("anyOf", "oneOf"):
        if several in field:
            return " \\| ".join(dict.fromkeys(type_name(each, anchor) for each in field[several]))
    if "allOf" in field:
        return type_name(field["allOf"][0], anchor)
    kind = str(field.get("type", "any"))
    if kind == "array":
        items = field.get("items") or next(iter(field.get("prefixItems", ())), None)
        return f"list of {type_name(items, anchor)}" if items else "list"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"map to {type_name(field['additionalProperties'], anchor)}"
    return kind


def _range(field: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    options = [field, *field.get("anyOf", ())]
    bounds = [f"{sign} {option[name]:g}" for option in options for name, sign in signs.items() if name in option]
    return f"({', '.join(bounds)})" if bounds else ""


def _short(value: Any) -> str:
    return json.dumps(value).replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(method: Method) -> str:
    name = method.package.rpartition(".")[2]
    return f"[{name}]({name}.md)" if (FOLDER / f"{name}.md").exists() else ""
