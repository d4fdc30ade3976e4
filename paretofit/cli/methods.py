"""`paretofit methods`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from paretofit.cli.output import print_json, stdout, table
from paretofit.cli.session import AsJson, client


def methods(
    context: typer.Context,
    *,
    kind: Annotated[str | None, typer.Argument(help="Name of a method: show its parameters.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the search methods, or the parameters of one."""
    with client(context) as service:
        if kind is None:
            listed = service.methods()
            if as_json:
                print_json(listed)
            else:
                rows = [(m.kind, m.summary, m.paper, ", ".join(m.presets)) for m in listed]
                stdout().print(table(("method", "summary", "paper", "presets"), rows))
            return
        schema = service.method_schema(kind)
        takes_start = any(method.takes_start for method in service.methods() if method.kind == kind)
        sources = {family.name: family.sources for family in service.families() if family.sources and takes_start}
    if as_json:
        print_json(schema)
    else:
        rows = [
            (name, _type(field), _default(field), field.get("description", ""))
            for name, field in schema.get("properties", {}).items()
            if name != "kind"
        ]
        stdout().print(table(("parameter", "type", "default", "description"), rows))
        if sources:
            stdout().print(
                "\nPublished weights that a family can start from (`paretofit weights add NAME`):", markup=False
            )
            stdout().print(table(("family", "sources"), [(name, ", ".join(names)) for name, names in sources.items()]))


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    if "anyOf" in field:
        return " | ".join(_type(option) for option in field["anyOf"])
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    return str(field.get("const", field.get("type", "any")))


def _default(field: dict[str, Any]) -> str:
    return str(field["default"]) if "default" in field else "(required)"
