"""Trained weights on the command line."""

from __future__ import annotations

from contextlib import ExitStack
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
from paretofit.client.errors import UsageError, WeightsRejectedError
from paretofit.models.header import file_sha256
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.sources import Source, check_commercial_use, identified

app = typer.Typer(
    no_args_is_help=True, help="Trained weights to start searches from: sources, add, list, show, delete."
)
Reference = Annotated[str, typer.Argument(metavar="ID", help="Id, its end, name or `latest`.")]
_PYTORCH: Final = (b"PK", b"\x80")
"""How files of `torch.save` begin: a zip archive, or before version 1.6 a pickle."""


@app.command()
def sources(context: typer.Context, *, as_json: AsJson = False) -> None:
    """The published weights that can be added by name."""
    with client(context) as service:
        listed = service.weights.sources()
    if as_json:
        print_json(listed)
        return
    rows = [
        (each.name, each.family, f"{each.width:g}", each.licence, "yes" if each.enabled else "disabled", each.title)
        for each in listed
    ]
    stdout().print(table(("name", "family", "#width", "licence", "enabled", "what it is"), rows))


@app.command()
def add(
    context: typer.Context,
    *,
    source: Annotated[
        str, typer.Argument(metavar="NAME_OR_FILE", help="A file (safetensors or PyTorch), or the name of a source.")
    ],
    published_as: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="NAME", help="The source whose published file it is, where one file makes several."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call them.", show_default="the source's name")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights in the file; model cards state it.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="Mean per color channel that they were trained with, such as 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation per color channel, as --mean.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names of the classifier in order: a text file with one a line, or separated by commas."
        ),
    ] = None,
    allow_non_commercial: Annotated[
        bool,
        typer.Option(
            "--allow-non-commercial", help="Accept weights for non-commercial use only: your use is permitted by them."
        ),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until they are converted.")] = True,
    as_json: AsJson = False,
) -> None:
    """Add trained weights: a file (`mine.safetensors`, `mine.pth`), or a published source by its name (`mobilenet_v2`).

    A PyTorch file is converted here, which needs torch: the service takes safetensors only.
    """
    file = Path(source).expanduser()
    given: dict[str, Any] = {
        "licence": licence,
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
        "class_names": _class_names(classes),
    }
    described = {field: value for field, value in given.items() if value is not None}
    if not file.is_file() and (file.suffix or "/" in source):
        raise UsageError(f"there is no file {source}")
    if published_as is not None and not file.is_file():
        raise UsageError(f"--source says what a file is, and {source} is not a file: leave it out")
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
        found = service.weights.create(spec)
        if uploading:
            found = _upload(service, found, file)
        if wait:
            found = _wait(service, found, "converting ..." if uploading else "fetching ...", as_json=as_json)
    if as_json:
        print_json(found)
    else:
        _describe(found)


@app.command("list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """The weights, newest first."""
    with client(context) as service:
        listed = list(service.weights.list())
    if as_json:
        print_json(listed)
        return
    rows = [
        (short(w.id), w.name, state(w.state), *_network(w), f"{w.created_at.astimezone():%Y-%m-%d %H:%M}")
        for w in listed
    ]
    stdout().print(table(("id", "name", "state", "family", "#width", "licence", "added"), rows))


@app.command()
def show(context: typer.Context, *, weights: Reference, as_json: AsJson = False) -> None:
    """Weights: their network, licence and provenance."""
    with client(context) as service:
        found = service.weights.get(references.weights_id(service, weights))
    if as_json:
        print_json(found)
    else:
        _describe(found)


@app.command()
def delete(context: typer.Context, *, weights: Reference) -> None:
    """Remove weights. Searches that were submitted with them keep a copy."""
    with client(context) as service:
        weights_id = references.weights_id(service, weights)
        service.weights.delete(weights_id)
    say(f"deleted {weights_id}")


def _converted(
    file: Path, folder: Path, published: Source | None, described: dict[str, Any], *, allow_non_commercial: bool
) -> Path:
    """A PyTorch file, or the file of a named source, as a weights file in `folder`. Raises UsageError without torch,
    and for a file that cannot be converted."""
    try:
        from paretofit.models.pretrained.convert import convert
        from paretofit.models.pretrained.fetch import fetch
    except ImportError as error:
        raise UsageError(
            f"converting {file.name} needs torch here: `pip install 'paretofit[worker]'`. Or save its state dict as "
            'safetensors where you have torch: `safetensors.torch.save_file(state_dict, "weights.safetensors")`'
        ) from error
    target = folder / "weights.safetensors"
    if published is not None and described:
        field = next(iter(described))
        raise UsageError(
            f"{file.name} is the file of the source {published.name}, which states its own {field}: leave it out"
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
    with bars.transfer("uploading", file.stat().st_size) as progress:
        return service.weights.upload(weights.id, file, progress)


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
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} takes one number per channel, separated by commas, not {text!r}") from error


def _class_names(given: str | None) -> list[str] | None:
    if given is None:
        return None
    path = Path(given).expanduser()
    if path.is_file():
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [part.strip() for part in given.split(",")]


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
            ("licence", record["licence"]),
            ("from", f"{record['source']} (layout {record['layout']})"),
        ]
        rows += [("note", note) for note in record["notes"]]
        if record["dropped"]:
            more = record["dropped_count"] - len(named := record["dropped"][:10])
            rows.append(("left out", ", ".join(named) + (f" and {more} more" if more > 0 else "")))
    stdout().print(facts(rows))
    if weights.state == "ready":
        say(f"start a search from them: `start: {{weights: {weights.name}}}` in the method of a specification")
