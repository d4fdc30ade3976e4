"""The `paretofit weights` commands."""

from __future__ import annotations

import math
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer

from paretofit.api.schemas.weights import Weights
from paretofit.cli import references
from paretofit.cli.output import facts, print_json, say, short, state, stderr, stdout, table
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, client
from paretofit.client import bars
from paretofit.client.client import Client
from paretofit.client.errors import ApiError, ParetofitError, UsageError, WeightsRejectedError
from paretofit.models.header import file_sha256
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.sources import Source, check_commercial_use, identified

app = typer.Typer(no_args_is_help=True, help="Manage trained weights that searches start from.")
Reference = Annotated[str, typer.Argument(metavar="ID", help="Id, end of an id, name or `latest`.")]
_PYTORCH: Final = (b"PK", b"\x80")
"""First bytes of `torch.save` files: a zip archive, or a pickle before version 1.6."""


@app.command()
def sources(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the published weights that can be added by name."""
    with client(context) as service:
        listed = service.weights.sources()
    if as_json:
        print_json(listed)
        return
    rows = [
        (each.name, each.family, f"{each.width:g}", each.licence, "yes" if each.enabled else "disabled", each.title)
        for each in listed
    ]
    stdout().print(table(("name", "family", "#width", "license", "enabled", "description"), rows))


@app.command()
def add(
    context: typer.Context,
    *,
    source: Annotated[
        str, typer.Argument(metavar="NAME_OR_FILE", help="A safetensors or PyTorch file, or the name of a source.")
    ],
    published_as: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Source of a published file that several sources share."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the weights.", show_default="the source's name")] = None,
    licence: Annotated[
        str | None, typer.Option(help="License of the weights in the file, stated in model cards.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Mean per color channel used in training, such as 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Standard deviation per color channel, in the format of --mean.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names of the classifier in order: a text file with one per line, or a comma-separated list."
        ),
    ] = None,
    allow_non_commercial: Annotated[
        bool,
        typer.Option(
            "--allow-non-commercial",
            help="Accept weights licensed for non-commercial use only. Your use must comply with their license.",
        ),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until conversion ends.")] = True,
    as_json: AsJson = False,
) -> None:
    """Add trained weights from a file (`mine.safetensors`, `mine.pth`) or a published source (`mobilenet_v2`).

    The service accepts safetensors only. PyTorch files are converted on this machine, which requires torch.
    """
    file = Path(source).expanduser()
    options: dict[str, Any] = {
        "licence": licence,
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
        "class_names": _class_names(classes),
    }
    described = {field: value for field, value in options.items() if value is not None}
    if not file.is_file() and (file.suffix or "/" in source):
        raise UsageError(f"file not found: {source}; check the path, or give the name of a source")
    if published_as is not None and not file.is_file():
        raise UsageError(f"--source applies only to files, and {source} is not a file; leave it out")
    with ExitStack() as stack:
        spec: dict[str, Any]
        if file.is_file():
            if not allow_non_commercial:
                _check_licence(file.name, licence)
            published = _identified(file, published_as)
            spec = {"name": name or (published.name if published else file.stem), "source": {"kind": "upload"}}
            if published is not None or _is_pytorch(file):
                folder = Path(stack.enter_context(TemporaryDirectory()))
                file = _converted(file, folder, published, described, allow_non_commercial=allow_non_commercial)
            else:
                spec |= described
            if allow_non_commercial:
                spec["allow_non_commercial"] = True
        else:
            spec = {"name": name or source, "source": {"kind": "named", "name": source}, **described}
        uploading = spec["source"]["kind"] == "upload"
        service = stack.enter_context(client(context, retry_timeout=LONG_RETRY_TIMEOUT if uploading else 3.0))
        added = service.weights.create(spec)
        if uploading:
            added = _upload(service, added, file)
        if wait:
            added = _wait(service, added, "converting ..." if uploading else "fetching ...", as_json=as_json)
    if as_json:
        print_json(added)
    else:
        _describe(added)


@app.command("list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List weights, newest first."""
    with client(context) as service:
        listed = list(service.weights.list())
    if as_json:
        print_json(listed)
        return
    rows = [
        (short(w.id), w.name, state(w.state), *_network(w), f"{w.created_at.astimezone():%Y-%m-%d %H:%M}")
        for w in listed
    ]
    stdout().print(table(("id", "name", "state", "family", "#width", "license", "added"), rows))


@app.command()
def show(context: typer.Context, *, weights: Reference, as_json: AsJson = False) -> None:
    """Show weights with their network, license and provenance."""
    with client(context) as service:
        shown = service.weights.get(references.weights_id(service, weights))
    if as_json:
        print_json(shown)
    else:
        _describe(shown)


@app.command()
def delete(context: typer.Context, *, weights: Reference) -> None:
    """Delete weights. Searches that use them keep a copy."""
    with client(context) as service:
        weights_id = references.weights_id(service, weights)
        service.weights.delete(weights_id)
    say(f"deleted {weights_id}")


def _converted(
    file: Path, folder: Path, published: Source | None, described: dict[str, Any], *, allow_non_commercial: bool
) -> Path:
    """Convert a PyTorch file, or the file of a named source, to a weights file in `folder`.

    Raises UsageError without torch and for a file that cannot be converted.
    """
    try:
        from paretofit.models.pretrained.convert import convert
        from paretofit.models.pretrained.fetch import fetch
    except ImportError as error:
        raise UsageError(
            f"converting {file.name} requires torch; install it with `pip install 'paretofit[worker]'`, or save the "
            'state dict on a machine with torch: `safetensors.torch.save_file(state_dict, "weights.safetensors")`'
        ) from error
    target = folder / "weights.safetensors"
    if published is not None and described:
        field = next(iter(described))
        raise UsageError(
            f"{file.name} is the file of the source {published.name}, which sets its own {field}; leave the option out"
        )
    try:
        if published is None:
            convert(file, target, source_name=file.name, allow_non_commercial=allow_non_commercial, **described)
        else:
            fetch(published.name, target, cache=folder, file=file)
    except ValueError as error:
        raise UsageError(f"{file.name}: {error}") from error
    return target


def _check_licence(*texts: str | None) -> None:
    try:
        check_commercial_use(*filter(None, texts))
    except PretrainedError as error:
        raise UsageError(str(error)) from error


def _identified(file: Path, name: str | None) -> Source | None:
    try:
        return identified(file_sha256(file), name)
    except PretrainedError as error:
        raise UsageError(f"{file.name}: {error}") from error


def _is_pytorch(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2).startswith(_PYTORCH)


def _upload(service: Client, weights: Weights, file: Path) -> Weights:
    """Upload the file. If the service refuses it, the weights are deleted, because they would stay `pending`."""
    try:
        with bars.transfer("uploading", file.stat().st_size) as progress:
            return service.weights.upload(weights.id, file, progress)
    except ApiError:
        with suppress(ParetofitError):
            service.weights.delete(weights.id)
        raise


def _wait(service: Client, weights: Weights, message: str, *, as_json: bool) -> Weights:
    with ExitStack() as stack:
        if stderr().is_terminal:
            stack.enter_context(stderr().status(message))
        try:
            return service.weights.wait(weights.id)
        except WeightsRejectedError as rejection:
            if as_json:
                print_json(rejection.weights)
            raise


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} takes one number per channel, not {text!r}; separate the numbers by commas")
    return numbers


def _class_names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    path = Path(text).expanduser()
    if path.is_file():
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [part.strip() for part in text.split(",")]


def _network(weights: Weights) -> tuple[str, str, str]:
    record = weights.record
    return ("-", "-", "-") if record is None else (record["family"], f"{record['width']:g}", record["licence"])


def _describe(weights: Weights) -> None:
    rows: list[tuple[str, object]] = [
        ("id", weights.id),
        ("name", weights.name),
        ("state", state(weights.state)),
        ("source", ", ".join(f"{key} {value}" for key, value in weights.source.items() if value is not None)),
    ]
    if weights.error:
        rows.append(("rejected", weights.error.get("detail") or weights.error.get("code")))
    if record := weights.record:
        head = "none" if record["classes"] is None else f"{record['classes']} classes"
        rows += [
            ("network", f"{record['family']} x {record['width']:g}, {record['channels']} channel(s)"),
            ("trained at", f"{record['nominal']} px"),
            ("mean", ", ".join(f"{value:g}" for value in record["mean"])),
            ("std", ", ".join(f"{value:g}" for value in record["std"])),
            ("classifier", head),
            ("license", record["licence"]),
            ("from", f"{record['source']} (layout {record['layout']})"),
        ]
        rows += [("note", note) for note in record["notes"]]
        if record["dropped"]:
            more = record["dropped_count"] - len(named := record["dropped"][:10])
            rows.append(("dropped", ", ".join(named) + (f" and {more} more" if more > 0 else "")))
    stdout().print(facts(rows))
    if weights.state == "ready":
        say(f"next: set `start: {{weights: {weights.name}}}` under `method` in a specification")
