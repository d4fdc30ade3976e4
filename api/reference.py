"""An OpenAPI document as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

STYLE: Final = """
:root { color-scheme: light dark; --line: #8885; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
nav { columns: 16rem; border: solid var(--line); border-width: 1px 0; padding: .5rem 0; }
nav a { display: block; text-decoration: none; }
h2 { margin-top: 3rem; text-transform: capitalize; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
code, .method { font-family: ui-monospace, monospace; font-size: .92em; }
.method { font-weight: 700; display: inline-block; min-width: 4.5em; }
.needs { float: right; opacity: .7; font-size: .85em; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
"""
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_REFERENCE: Final = "#/components/schemas/"


def page(document: Mapping[str, Any]) -> str:
    """HTML without scripts; its style is `/docs/style.css`."""
    return "\n".join(_page(document))


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}: API</title>"
    yield "<meta name=viewport content='width=device-width'><link rel=stylesheet href='/docs/style.css'>"
    yield f"<h1>{escape(info['title'])}, version {escape(info['version'])}</h1>"
    yield f"<p>{escape(info.get('description', ''))}</p>"
    yield "<p>Machine-readable: <a href='/openapi.json'>/openapi.json</a>. The required scope is shown on the right."
    yield "</p>"
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                by_tag.setdefault(methods[method].get("tags", ["other"])[0], []).append((path, method, methods[method]))
    schemas = document["components"]["schemas"]
    yield "<nav>"
    yield from (f"<a href='#{escape(tag)}'>{escape(tag)}</a>" for tag in by_tag)
    yield "<a href='#schemas'>schemas</a></nav>"
    for tag, operations in by_tag.items():
        yield f"<h2 id='{escape(tag)}'>{escape(tag)}</h2>"
        for path, method, operation in operations:
            yield from _operation(path, method, operation)
    yield "<h2 id=schemas>schemas</h2>"
    for name in sorted(schemas):
        yield f"<details id='{_anchor(name)}'><summary><code>{escape(name)}</code></summary>"
        yield from _schema(schemas[name])
        yield "</details>"
    yield "</html>"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    needs = {scope for each in operation.get("security", []) for scopes in each.values() for scope in scopes}
    yield f"<details id='{escape(operation['operationId'])}'><summary>"
    yield f"<span class=needs>{escape(', '.join(needs))}</span>"
    yield f"<span class=method>{method.upper()}</span> <code>{escape(path)}</code> "
    yield escape(operation.get("summary", ""))
    yield f"</summary><p>{escape(operation.get('description', ''))}</p>"
    if operation.get("parameters"):
        rows = [
            (parameter["name"], parameter["in"], _type(parameter["schema"]), parameter.get("description", ""))
            for parameter in operation["parameters"]
        ]
        yield from _table(("parameter", "in", "type", ""), rows)
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(media)}</code> {_type(content.get('schema', {}))}</p>"
    answers = [
        (
            status,
            ", ".join(_type(content.get("schema", {})) for content in answer.get("content", {}).values()),
            answer.get("description", ""),
        )
        for status, answer in operation["responses"].items()
    ]
    yield from _table(("status", "body", ""), answers)
    yield "</details>"


def _schema(schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"<p>{escape(schema.get('description', ''))}</p>"
    required = schema.get("required", ())
    rows = [
        (
            name + ("" if name in required else " (optional)"),
            _type(field),
            field.get("description", "")
            + (f" Default: {field['default']!r}." if field.get("default") is not None else ""),
        )
        for name, field in schema.get("properties", {}).items()
    ]
    if rows:
        yield from _table(("field", "type", ""), rows)
    else:
        yield f"<p>{_type(schema)}</p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table; the columns `type` and `body` already hold HTML."""
    yield "<table><tr>" + "".join(f"<th>{escape(head)}" for head in heads)
    for row in rows:
        cells = (cell if head in {"type", "body"} else escape(cell) for head, cell in zip(heads, row, strict=True))
        yield "<tr>" + "".join(f"<td>{cell}" for cell in cells)
    yield "</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in short, as HTML with links to named schemas."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFERENCE)
        return f"<a href='#{_anchor(name)}'>{escape(name)}</a>"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " | ".join(_type(each) for each in schema[choice])
    if "const" in schema:
        return f"<code>{escape(repr(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = [
        f"{sign} {schema[name]}"
        for name, sign in (
            ("minimum", "&ge;"),
            ("exclusiveMinimum", "&gt;"),
            ("maximum", "&le;"),
            ("exclusiveMaximum", "&lt;"),
        )
        if name in schema
    ]
    return escape(str(schema.get("type", "anything"))) + (f" ({', '.join(bounds)})" if bounds else "")


def _anchor(name: str) -> str:
    return "schema-" + "".join(letter if letter.isalnum() else "-" for letter in name)
