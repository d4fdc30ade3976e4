"""The API reference in Markdown, generated from the OpenAPI document."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from docs.parameters import table, type_name

_ANCHOR: Final = "schema"
_METHODS: Final = ("get", "post", "put", "patch", "delete")


def document() -> dict[str, Any]:
    """The OpenAPI document of this source tree."""
    from paretofit.api.app import create_app
    from paretofit.core.settings import Settings

    with tempfile.TemporaryDirectory() as home:
        # The application only generates its document; it connects to nothing.
        settings = Settings(
            home=Path(home), database_url="postgresql://localhost/none", redis_url="redis://localhost/0"
        )
        return create_app(settings).openapi()


def reference() -> str:
    """All operations by tag, then all schemas."""
    openapi = document()
    return "\n".join([*_operations(openapi["paths"]), *_schemas(openapi["components"]["schemas"])])


def _operations(paths: Mapping[str, Any]) -> Iterator[str]:
    tags: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, item in paths.items():
        for method in _METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["service"])[0]
                tags.setdefault(tag, []).append((method, path, item[method]))
    for tag, operations in tags.items():
        yield f"\n## {tag.capitalize()}\n"
        for method, path, operation in operations:
            yield from _operation(method, path, operation)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### `{method.upper()} {path}` {{ #{operation['operationId']} }}\n"
    yield f"{operation.get('description', '')}\n"
    parameters = [each for each in operation.get("parameters", ()) if each["in"] != "path"]
    if parameters:
        yield "| Parameter | In | Type | Description |"
        yield "|---|---|---|---|"
        for each in parameters:
            meaning = " ".join((each.get("description") or each["schema"].get("description", "")).split())
            yield f"| `{each['name']}` | {each['in']} | {type_name(each['schema'], _ANCHOR)} | {meaning} |"
        yield ""
    body = operation.get("requestBody", {}).get("content", {})
    for media_type, content in body.items():
        yield f"Body: {_content(media_type, content)}\n"
    for status, response in operation["responses"].items():
        content = ", ".join(_content(*each) for each in response.get("content", {}).items())
        description = " ".join(response.get("description", "").split())
        yield f"- **{status}** {content or description}{f': {description}' if content and int(status) >= 400 else ''}"
    yield ""


def _content(media_type: str, content: Mapping[str, Any]) -> str:
    schema = content.get("schema", {})
    return type_name(schema, _ANCHOR) if media_type == "application/json" and schema else f"`{media_type}`"


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## Schemas\n"
    for name, schema in sorted(schemas.items()):
        yield f"\n### {name} {{ #{_ANCHOR}-{name.lower()} }}\n"
        yield f"{' '.join(schema.get('description', '').split())}\n"
        if "properties" in schema:
            yield from table(schema, _ANCHOR)
        else:
            yield type_name(schema, _ANCHOR)
