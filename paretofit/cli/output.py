"""Output of the command line: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paretofit.api.schemas.searches import Search
from paretofit.client.errors import ParetofitError

_PIPE_WIDTH = 200
"""Columns without a terminal: wide enough to show every table in full."""

_STYLES = {
    "ready": "green",
    "succeeded": "green",
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "rejected": "red",
    "cancelled": "yellow",
    "infeasible": "yellow",
}


def stdout() -> Console:
    """The console for results."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def stderr() -> Console:
    """The console for messages and progress."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


def say(message: str) -> None:
    """Print a message to stderr."""
    stderr().print(message, markup=False)


def print_error(failure: ParetofitError | str) -> None:
    """Print an error in red, with the request id if there is one."""
    first, *rest = str(failure).splitlines() or [""]
    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), (first, "red")), soft_wrap=True)
    for line in rest:
        console.print(line, markup=False, soft_wrap=True)
    request_id = getattr(failure, "request_id", None)
    if request_id:
        console.print(Text(f"  request {request_id}", "dim"))


def print_json(value: Any) -> None:
    """Print one JSON document to stdout. Pydantic models are serialized."""
    sys.stdout.write(json.dumps(_plain(value), indent=2 if sys.stdout.isatty() else None) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; columns whose heading begins with `#` are right-aligned."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values, one per line."""
    made = Table(show_header=False, box=None, pad_edge=False)
    made.add_column(style="bold")
    made.add_column()
    for name, value in rows:
        made.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return made


def state(name: str) -> Text:
    """A state in its color."""
    return Text(name, _STYLES.get(name, ""))


def error_text(error: Mapping[str, Any] | None) -> str:
    """An error {code, detail} as one line; empty without an error."""
    code, detail = (error or {}).get("code"), (error or {}).get("detail")
    return f"{detail} ({code})" if code and detail else str(detail or code or "")


def warn(search: Search) -> None:
    """Print the warnings of a finished search in yellow."""
    for warning in search.warnings:
        stderr().print(Text.assemble(("warning: ", "bold yellow"), (warning.detail, "yellow")), soft_wrap=True)


def state_of(search: Search) -> Text:
    """The state of a search with the codes of its warnings."""
    codes = [Text(warning.code.replace("_", " "), "yellow") for warning in search.warnings]
    return Text(", ").join([state(search.state), *codes])


def short(identifier: str) -> str:
    """The end of an id, which every command accepts instead of the id."""
    return identifier[-8:]


def accuracy(value: float | None) -> str:
    """A fraction as a percentage with two decimals; `-` for None."""
    return "-" if value is None else f"{100 * value:.2f} %"
