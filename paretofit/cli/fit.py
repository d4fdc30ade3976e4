"""`paretofit fit`: from a folder of photos to a deployable network, in one command."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from paretofit.api.schemas.exports import Format
from paretofit.cli import embedded, references
from paretofit.cli.chart import chart
from paretofit.cli.exits import Exit
from paretofit.cli.fronts import front_table
from paretofit.cli.output import accuracy, error_text, print_error, say, short, stderr, warn
from paretofit.cli.service import require_server
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, Session
from paretofit.cli.watch import show_progress
from paretofit.client import bars
from paretofit.client import fit as steps
from paretofit.client.client import DEFAULT_URL, Client
from paretofit.client.errors import ApiError, NoSuchError, ParetofitError, UnreachableError, UsageError
from paretofit.client.fit import Budget, Fit
from paretofit.client.numbers import format_quantity, format_seconds, parse_milliseconds, parse_quantity, parse_seconds
from paretofit.client.transports import complete


def _parsed(parse: Any) -> Any:
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    convert.__name__ = "TEXT"
    return convert


def _format(text: str) -> Format:
    """Raises UsageError for an unknown format."""
    known: dict[str, Format] = {each: each for each in get_args(Format)}
    if text not in known:
        raise UsageError(f"--format: unknown format {text!r}; choose from {', '.join(known)}")
    return known[text]


def fit(
    context: typer.Context,
    *,
    photos: Annotated[
        str,
        typer.Argument(
            metavar="PHOTOS",
            help="A zip or tar archive, or a folder, with one folder of images for each class; or the name or id of a "
            "dataset.",
        ),
    ],
    device: Annotated[
        str | None, typer.Option(help="Device of the latency, such as onnxruntime-cpu-1t (`paretofit devices`).")
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(
            "--latency", "--max-latency", parser=_parsed(parse_milliseconds), metavar="MS", help="Such as 5ms or 5."
        ),
    ] = None,
    max_macs: Annotated[
        float | None, typer.Option(parser=_parsed(parse_quantity), metavar="N", help="Maximum MACs, such as 20M.")
    ] = None,
    max_params: Annotated[
        float | None, typer.Option(parser=_parsed(parse_quantity), metavar="N", help="Maximum number of parameters.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--time", parser=_parsed(parse_seconds), metavar="TIME", help="Time limit, such as 30m or 2h."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the checkpoint, the card and the exports.")
    ] = Path("fit"),
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Format to export to; may be repeated.", show_default="the device's runtime"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset and the search.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the most accurate network for your photos within a budget, and write its files.

    Starts a service for the duration of the command if none is running. Ctrl-C keeps what was found.
    """
    began = time.monotonic()
    budget = Budget(max_macs, max_params, latency, device)
    chosen = tuple(map(_format, formats)) if formats else budget.formats
    with _service(context) as (service, embedded_home):
        dataset = _dataset(service, photos, name)
        start, reason = complete(steps.find_start(service.transport(), dataset))
        say(reason)
        search = complete(
            steps.submit(service.transport(), dataset, start, budget, name=name or dataset.name, seconds=limit)
        )
        say(f"searching: {search.id}")
        try:
            search = show_progress(service, search.id, stderr(), chart=chart)
        except KeyboardInterrupt as interrupt:
            say(_how_to_go_on(service, search.id, embedded_home))
            raise typer.Exit(Exit.INTERRUPTED) from interrupt
        front = service.searches.front(search.id, dominated=True)
        if search.state != "succeeded" and not front.points:
            print_error(f"search {search.id} {search.state}: {error_text(search.error) or 'it found no network'}")
            raise typer.Exit(Exit.FAILED)
        stderr().print(front_table(front))
        warn(search)
        say(f"exporting to {', '.join(chosen)}")
        result = complete(steps.collect(service.transport(), search.id, budget, out.expanduser(), chosen, began=began))
    _describe(result, budget, began)
    if as_json:
        sys.stdout.write(json.dumps(result.summary(device)) + "\n")


@contextmanager
def _service(context: typer.Context) -> Iterator[tuple[Client, Path | None]]:
    """A client of the running service, or of one that runs until the command ends, with the latter's data folder.

    Raises UnreachableError if a URL was given and does not respond."""
    session = context.find_object(Session)
    assert session is not None
    if session.url is not None or _responds(DEFAULT_URL, session.key):
        with session.client(retry_timeout=LONG_RETRY_TIMEOUT) as service:
            yield service, None
        return
    require_server()
    from paretofit.core.settings import Settings

    home = Settings().home
    if (running := embedded.url_of(home)) is not None and _responds(running, session.key):
        with Client(running, session.key, retry_timeout=LONG_RETRY_TIMEOUT) as service:
            yield service, None
        return
    say(f"starting a service; its data and logs are in {home}")
    with embedded.service(home, os.environ) as url, Client(url, session.key) as service:
        yield service, home


def _responds(url: str, key: str | None) -> bool:
    """Whether a Paretofit service responds: another program may use the default port."""
    try:
        with Client(url, key, retry_timeout=0.0) as service:
            service.methods()
    except ApiError as error:
        return "code" in error.problem
    except (UnreachableError, ValueError):
        return False
    return True


def _dataset(service: Client, photos: str, name: str | None) -> Any:
    """The dataset of these photos: a new one from an archive or a folder, else an existing one."""
    path = Path(photos).expanduser()
    if not path.exists():
        try:
            return service.datasets.wait(references.dataset_id(service, photos))
        except NoSuchError as error:
            raise UsageError(
                f"not found: {photos}; give an archive, a folder with one folder of images for each class, or the name "
                "of a dataset"
            ) from error
    say("uploading and validating the photos")
    with bars.transfer("uploading", _size(path)) as progress:
        return complete(steps.add_dataset(service.transport(), path, name or steps.name_of(path), progress))


def _size(path: Path) -> int:
    files: Sequence[Path] = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


def _how_to_go_on(service: Client, search_id: str, home: Path | None) -> str:
    """What was found so far, and the commands that continue. A search whose service is about to end is paused, so that
    its time limit does not run on."""
    name = short(search_id)
    try:
        summary = service.searches.get(search_id).summary
        found = f"{summary.points} on the front, best top-1 {accuracy(summary.best_top1)}"
        if home is not None:
            service.searches.pause(search_id)
    except ParetofitError as error:
        found = str(error)
    more = f"paretofit watch {name}"
    if home is not None:
        more = f"paretofit up --home {shlex.quote(str(home))}\n  paretofit resume {name}\n  {more}"
    return f"interrupted; what was found is kept ({found})\n  {more}\n  paretofit download {short(search_id)} best"


def _describe(result: Fit[Any], budget: Budget, began: float) -> None:
    metrics = result.point.metrics
    facts = [f"{accuracy(metrics.get('top1'))} top-1 on the report split"]
    if (majority := result.search.summary.majority_top1) is not None:
        facts.append(f"{accuracy(majority)} by always predicting {result.search.summary.majority_class!r}")
    if (macs := metrics.get("macs")) is not None:
        facts.append(f"{format_quantity(macs)} MACs")
    if budget.device is not None and (milliseconds := metrics.get(f"latency_ms:{budget.device}")) is not None:
        facts.append(f"{milliseconds:.3g} ms on {budget.device}")
    say(f"\n{result.point.key}: {', '.join(facts)}; found in {format_seconds(time.monotonic() - began)}")
    for kind, path in result.files.items():
        say(f"  {kind}: {path}")
