"""Points and searches in other formats on the command line."""

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
    str, typer.Argument(metavar="POINT", help="A point's id, or SEARCH:POINT such as latest:best.", show_default=False)
]


def _shape(text: str) -> Shape:
    try:
        channels, height, width = map(int, text.lower().split("x"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no shape: give CHANNELSxHEIGHTxWIDTH, such as 3x224x224") from error
    return channels, height, width


def export(
    context: typer.Context,
    *,
    point: _Point,
    file_format: Annotated[Format, typer.Option("--format", help="Of the file.")],
    precision: Annotated[Precision, typer.Option(help="Of its weights.")] = "float32",
    input_shape: Annotated[
        str | None, typer.Option(metavar="CxHxW", help="Of an image.", show_default="as it was measured")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File or folder.", show_default="./NAME")] = None,
    as_json: AsJson = False,
) -> None:
    """Export a point for a runtime; wait, download the file and check its digest."""
    shape = None if input_shape is None else _shape(input_shape)
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        wanted = references.point_id(service, point)
        with ExitStack() as stack:
            if stderr().is_terminal:
                stack.enter_context(stderr().status("exporting ..."))
            asked = service.points.export(wanted, file_format, precision=precision, input_shape=shape)
            made = service.points.wait(asked.id)
        assert made.artifact is not None
        default = Path(made.artifact.name)
        path = service.artifacts.download(
            made.artifact.id, default if out is None else out / default if out.is_dir() else out
        )
    if as_json:
        print_json({"path": str(path), **made.model_dump(mode="json")})
        return
    stdout().print(str(path), soft_wrap=True)
    if made.parity is not None:
        say(f"its logits are PyTorch's to {made.parity.max_abs_diff:.2g} ({made.parity.tolerance:.2g} is allowed)")
    say(f"load it:\n{made.loading.replace(made.artifact.name, str(path))}")


def study(
    context: typer.Context,
    *,
    search: SearchReference,
    out: Annotated[Path, typer.Option("--out", "-o", help="File: *.log for a journal, *.db for SQLite.")],
) -> None:
    """Write a search as a study of Optuna's, for `optuna.load_study` and `optuna-dashboard`."""
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT) as service:
        try:
            path = service.searches.study(references.search_id(service, search), out)
        except ImportError as error:
            raise UsageError(str(error)) from error
    stdout().print(str(path), soft_wrap=True)
    say(f"open it: optuna-dashboard {'sqlite:///' if is_sqlite(path) else ''}{path}")


def card(
    context: typer.Context,
    *,
    point: _Point,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File.", show_default="stdout")] = None,
) -> None:
    """A point's model card: data, recipe, metrics, cost, provenance."""
    with client(context) as service:
        content = service.points.card(references.point_id(service, point))
    if out is None:
        typer.echo(content)
    else:
        out.write_text(content, encoding="utf-8")
        stdout().print(str(out), soft_wrap=True)
