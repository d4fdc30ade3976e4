"""`paretofit watch`: follows a search with its events, progress, rates and time left."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from paretofit.api.schemas.events import Event
from paretofit.cli import references
from paretofit.cli.exits import Exit
from paretofit.cli.output import error_text, print_error, say, short, stdout, warn
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, SearchReference, client
from paretofit.cli.unmet import unmet
from paretofit.client.client import Client
from paretofit.client.errors import ParetofitError
from paretofit.client.fronts import Front
from paretofit.client.numbers import format_quantity, format_seconds
from paretofit.client.search import SearchDetail

_POLL_SECONDS: Final = 1.0
"""Seconds between two progress polls; events arrive immediately."""

_LINE_SECONDS: Final = 10.0
"""Seconds between two progress lines without a terminal."""

_CURVE_VALUES: Final = 4


def watch(context: typer.Context, *, search: SearchReference, as_json: AsJson = False) -> None:
    """Follow a search until it ends: events, progress, rates and time left.

    Exits with 0 if the search succeeds and with 1 if it fails or is cancelled. `--json` prints one event per line.
    """
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        follow(service, references.search_id(service, search), as_json=as_json)


def follow(service: Client, search_id: str, *, as_json: bool = False) -> None:
    """Follow a search until it ends. Raises typer.Exit unless it succeeded."""
    if as_json:
        for event in service.searches.events(search_id):
            sys.stdout.write(event.model_dump_json() + "\n")
            sys.stdout.flush()
        search = service.searches.get(search_id)
    else:
        search = show_progress(service, search_id, stdout())
        for constraint in unmet(search):
            say(constraint)
    warn(search)
    if search.state != "succeeded":
        reason = error_text(search.error) or f"`paretofit show {short(search_id)}` lists its trials"
        print_error(f"search {search_id} {search.state}: {reason}")
        raise typer.Exit(Exit.FAILED)


def show_progress(
    service: Client, search_id: str, console: Console, chart: Callable[[Front], str] | None = None
) -> SearchDetail:
    """Print the events and progress of a search until it ends: a live bar on a terminal, lines otherwise. `chart` draws
    the growing front above the bar."""
    if console.is_terminal:
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}"),
        )
        task, drawn = bar.add_task("starting", total=1.0, now=""), Text()
        with Live(Group(drawn, bar), console=console, transient=True):
            for event in _events_and_ticks(service, search_id):
                if event is not None:
                    _write(console, event)
                    if chart is not None and event.type == "front.updated":
                        drawn.plain = chart(service.searches.front(search_id, dominated=True))
                    continue
                search = service.searches.get(search_id)
                bar.update(
                    task,
                    completed=search.progress.fraction,
                    description=search.state,
                    now=", ".join(_status(service, search)),
                )
    else:
        written, last = time.monotonic(), ""
        for event in _events_and_ticks(service, search_id):
            if event is not None:
                _write(console, event)
            elif time.monotonic() - written >= _LINE_SECONDS:
                search = service.searches.get(search_id)
                line = ", ".join([f"{search.progress.fraction:.0%}", *_status(service, search)])
                if line != last:
                    console.print(f"{datetime.now().astimezone():%H:%M:%S} {line}", markup=False)
                written, last = time.monotonic(), line
    return service.searches.get(search_id)


def _events_and_ticks(service: Client, search_id: str) -> Iterator[Event | None]:
    """The events of a search, and None whenever its progress is due for a poll."""
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
    next_poll = time.monotonic()
    while True:
        try:
            item = arrived.get(timeout=max(0.0, next_poll - time.monotonic()))
        except queue.Empty:
            yield None
            next_poll = time.monotonic() + _POLL_SECONDS
            continue
        if item is None:
            return
        if isinstance(item, ParetofitError):
            raise item
        yield item


def _status(service: Client, search: SearchDetail) -> Iterator[str]:
    """The time left, the size of the front and the latest metrics of the running trials."""
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
    # Front updates are frequent; the progress line counts the points.
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
