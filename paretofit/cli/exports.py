"""The commands that export points and searches to other formats."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from paretofit.api.schemas.exports import Format, Precision, Shape
from paretofit.cli import references
from paretofit.cli.output import print_json, say, stderr, stdout
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, SearchReference, client
from paretofit.client.errors import UsageError
from paretofit.client.studies import is_sqlite

_Point = Annotated[
    str, typer.Argument(metavar="POINT", help="Id of a point, or SEARCH:POINT such as latest:best.", show_default=False)
]


def _shape(text: str) -> Shape:
    try:
        channels, height, width = map(int, text.lower().split("x"))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a valid shape; give CHANNELSxHEIGHTxWIDTH, such as 3x224x224"
        ) from error
    return channels, height, width


def export(
    context: typer.Context,
    *,
    point: _Point,
    file_format: Annotated[Format, typer.Option("--format", help="File format.")],
    precision: Annotated[Precision, typer.Option(help="Precision of the weights.")] = "float32",
    input_shape: Annotated[
        str | None,
        typer.Option(metavar="CxHxW", help="Shape of an input image.", show_default="evaluation shape"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output file or folder.", show_default="./NAME")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a point for a runtime, then download the file and verify its SHA-256."""
    shape = None if input_shape is None else _shape(input_shape)
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        point_id = references.point_id(service, point)
        with ExitStack() as stack:
            if stderr().is_terminal:
                stack.enter_context(stderr().status("exporting ..."))
            requested = service.points.export(point_id, file_format, precision=precision, input_shape=shape)
            exported = service.points.wait(requested.id)
        assert exported.artifact is not None
        default = Path(exported.artifact.name)
        path = service.artifacts.download(
            exported.artifact.id, default if out is None else out / default if out.is_dir() else out
        )
    if as_json:
        print_json({"path": str(path), **exported.model_dump(mode="json")})
        return
    stdout().print(str(path), soft_wrap=True)
    if exported.parity is not None:
        parity = exported.parity
        say(f"largest difference from PyTorch's logits: {parity.max_abs_diff:.2g} (tolerance {parity.tolerance:.2g})")
    say(f"to load it:\n{exported.loading.replace(exported.artifact.name, str(path))}")


def study(
    context: typer.Context,
    *,
    search: SearchReference,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output file: *.log for a journal, *.db for SQLite.")],
) -> None:
    """Write a search as an Optuna study, for `optuna.load_study` and `optuna-dashboard`."""
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        try:
            path = service.searches.study(references.search_id(service, search), out)
        except ImportError as error:
            raise UsageError(str(error)) from error
    stdout().print(str(path), soft_wrap=True)
    say(f"to open it: optuna-dashboard {'sqlite:///' if is_sqlite(path) else ''}{path}")


def card(
    context: typer.Context,
    *,
    point: _Point,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output file.", show_default="stdout")] = None,
) -> None:
    """Print the model card of a point: data, recipe, metrics, cost and provenance."""
    with client(context) as service:
        content = service.points.card(references.point_id(service, point))
    if out is None:
        typer.echo(content)
    else:
        out.write_text(content, encoding="utf-8")
        stdout().print(str(out), soft_wrap=True)
