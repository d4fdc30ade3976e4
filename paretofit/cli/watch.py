"""Following a search: its events as they happen, and how far it is, at which rates, until when."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from paretofit.api.schemas.events import Event
from paretofit.cli import references
from paretofit.cli.exits import Exit
from paretofit.cli.output import complain, error_text, say, stdout, warn
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, SearchReference, client
from paretofit.cli.unmet import unmet
from paretofit.client.client import Client
from paretofit.client.errors import ParetofitError
from paretofit.client.numbers import format_quantity, format_seconds
from paretofit.client.search import SearchDetail

_LOOK: Final = 1.0
"""Seconds between two looks at the progress; events come at once."""

_LINE: Final = 10.0
"""Seconds between two progress lines where there is no terminal to draw a bar on."""

_CURVE_VALUES: Final = 4


def watch(context: typer.Context, *, search: SearchReference, as_json: AsJson = False) -> None:
    """Follow a search until it is over: events, progress, rates and the time left.

    Exits with 0 if the search succeeds and with 1 if it fails or is cancelled. `--json` prints an event a line.
    """
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        follow(service, references.search_id(service, search), as_json=as_json)


def follow(service: Client, search_id: str, *, as_json: bool = False) -> None:
    """Show a search until it is over. Raises typer.Exit unless it succeeded."""
    if as_json:
        for event in service.searches.events(search_id):
            sys.stdout.write(event.model_dump_json() + "\n")
            sys.stdout.flush()
        search = service.searches.get(search_id)
    else:
        search = show_progress(service, search_id, stdout())
        for bound in unmet(search):
            say(bound)
    warn(search)
    if search.state != "succeeded":
        complain(f"search {search_id} {search.state}: {error_text(search.error) or 'see its trials'}")
        raise typer.Exit(Exit.FAILED)


def show_progress(service: Client, search_id: str, console: Console) -> SearchDetail:
    """Write a search's events and progress to a console until it is over: a live bar on a terminal, else lines."""
    if console.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task("starting", total=1.0, now="")
            for event in _until_over(service, search_id):
                if event is not None:
                    _write(console, event)
                    continue
                search = service.searches.get(search_id)
                bar.update(
                    task,
                    completed=search.progress.fraction,
                    description=search.state,
                    now=", ".join(_now(service, search)),
                )
    else:
        written, last = time.monotonic(), ""
        for event in _until_over(service, search_id):
            if event is not None:
                _write(console, event)
            elif time.monotonic() - written >= _LINE:
                search = service.searches.get(search_id)
                line = ", ".join([f"{search.progress.fraction:.0%}", *_now(service, search)])
                if line != last:
                    console.print(f"{datetime.now().astimezone():%H:%M:%S} {line}", markup=False)
                written, last = time.monotonic(), line
    return service.searches.get(search_id)


def _until_over(service: Client, search_id: str) -> Iterator[Event | None]:
    """The events of a search, and None whenever it is time to look at its progress."""
    arrived: queue.SimpleQueue[Event | ParetofitError | None] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for event in service.searches.events(search_id):
                arrived.put(event)
        except ParetofitError as failure:
            arrived.put(failure)
        else:
            arrived.put(None)

    threading.Thread(target=listen, name="events", daemon=True).start()
    look = time.monotonic()
    while True:
        try:
            item = arrived.get(timeout=max(0.0, look - time.monotonic()))
        except queue.Empty:
            yield None
            look = time.monotonic() + _LOOK
            continue
        if item is None:
            return
        if isinstance(item, ParetofitError):
            raise item
        yield item


def _now(service: Client, search: SearchDetail) -> Iterator[str]:
    """What can be said of a search at this moment: the time left, the front, the running trials' latest values."""
    if search.progress.eta_seconds is not None:
        yield f"{format_seconds(search.progress.eta_seconds)} left"
    if search.summary.points:
        yield f"{search.summary.points} on the front"
    for trial in service.searches.trials(search.id):
        if trial.state != "running":
            continue
        for curve in service.trials.metrics(trial.id, max_points=_CURVE_VALUES):
            value = curve.points[-1].value if curve.points else None
            if curve.name != "progress" and value is not None:
                yield f"{curve.name.replace('_', ' ')} {format_quantity(value)}"


def _write(console: Console, event: Event) -> None:
    # A front grows by many small steps: the progress counts its points.
    if event.type == "front.updated":
        return
    console.print(f"{event.at.astimezone():%H:%M:%S} {_sentence(event)}", markup=False, soft_wrap=True)


def _sentence(event: Event) -> str:
    subject, _, verb = event.type.partition(".")
    data = event.data
    error = data.get("error")
    parts = [
        f"{subject} {data['number']}" if subject == "trial" and "number" in data else subject,
        verb.replace("_", " "),
        *(f"({data[key]})" for key in ("reason", "stop_reason") if data.get(key) not in {None, "completed"}),
        *([f"on {data['device']}"] if data.get("device") else []),
        *(f"({warning['code'].replace('_', ' ')})" for warning in data.get("warnings", ())),
    ]
    if isinstance(error, dict):
        parts.append(f"- {error_text(error)}")
    return " ".join(parts)
