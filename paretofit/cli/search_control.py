"""The commands that pause, resume, clone and change searches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from paretofit.cli import references
from paretofit.cli.output import print_json, stdout
from paretofit.cli.session import AsJson, SearchReference, client
from paretofit.client.search import SearchDetail

Name = Annotated[str | None, typer.Option(help="New name.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="Set a label; `NAME=` removes it.")
]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=VALUE", help="Set a limit such as max_trials=5; `max_trials=` removes it."),
]


def pause(context: typer.Context, *, search: SearchReference, as_json: AsJson = False) -> None:
    """Pause a search. Running trials save a checkpoint and stop."""
    with client(context) as service:
        updated = service.searches.pause(references.search_id(service, search))
    _print_result(updated, updated.state if updated.state == "paused" else "pausing", as_json=as_json)


def resume(context: typer.Context, *, search: SearchReference, as_json: AsJson = False) -> None:
    """Resume a paused search."""
    with client(context) as service:
        updated = service.searches.resume(references.search_id(service, search))
    _print_result(updated, updated.state, as_json=as_json)


def clone(
    context: typer.Context,
    *,
    search: SearchReference,
    name: Name = None,
    seed: Annotated[int | None, typer.Option(help="New seed.")] = None,
    labels: Labels = None,
    limits: Limits = None,
    as_json: AsJson = False,
) -> None:
    """Submit a copy of a search, optionally with changes."""
    changes = _changes(name=name, seed=seed, labels=labels, limits=limits)
    with client(context) as service:
        copy = service.searches.clone(references.search_id(service, search), changes)
    if as_json:
        print_json(copy)
    else:
        stdout().print(f"submitted {copy.id}")


def change(
    context: typer.Context,
    *,
    search: SearchReference,
    name: Name = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9; higher priorities run first.")] = None,
    labels: Labels = None,
    limits: Limits = None,
    as_json: AsJson = False,
) -> None:
    """Change the name, labels, limits or priority of a search."""
    changes = _changes(name=name, priority=priority, labels=labels, limits=limits)
    if not changes:
        raise typer.BadParameter("nothing to change; give --name, --priority, --label or --limit")
    with client(context) as service:
        changed = service.searches.change(references.search_id(service, search), changes)
    _print_result(changed, "changed", as_json=as_json)


def _changes(*, labels: Sequence[str] | None, limits: Sequence[str] | None, **others: Any) -> dict[str, Any]:
    changes = {name: value for name, value in others.items() if value is not None}
    if labels:
        changes["labels"] = {name: value or None for name, value in map(_pair, labels)}
    if limits:
        changes["limits"] = {name: _number(value) for name, value in map(_pair, limits)}
    return changes


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise typer.BadParameter(f"{text!r} is not of the form NAME=VALUE; give an option such as `--label team=blue`")
    return name, value


def _number(value: str) -> float | None:
    if not value:
        return None
    try:
        number = json.loads(value)
    except json.JSONDecodeError:
        number = value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise typer.BadParameter(f"{value!r} is not a number; give a limit such as max_trials=5")
    return number


def _print_result(search: SearchDetail, status: str, *, as_json: bool) -> None:
    if as_json:
        print_json(search)
    else:
        stdout().print(f"{search.id}: {status}")
