"""The `paretofit` command."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from paretofit.cli import (
    datasets,
    demo,
    devices,
    exports,
    fit,
    fronts,
    keys,
    methods,
    search_control,
    searches,
    service,
    watch,
    weights,
)
from paretofit.cli.exits import MEANINGS, Exit, exit_code
from paretofit.cli.output import print_error
from paretofit.cli.session import Session
from paretofit.client.errors import ParetofitError


class _Group(TyperGroup):
    """Turns expected exceptions into an error message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ParetofitError as failure:
            print_error(failure)
            raise typer.Exit(exit_code(failure)) from failure
        except KeyboardInterrupt as interrupt:
            print_error("interrupted")
            raise typer.Exit(Exit.INTERRUPTED) from interrupt
        except BrokenPipeError as closed:
            raise typer.Exit(Exit.OK) from closed


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="[bold]Exit codes[/bold]  " + " · ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()),
)


@app.callback()
def paretofit(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="PARETOFIT_URL", help="URL of the service.", show_default="http://127.0.0.1:8000"),
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="PARETOFIT_KEY", help="API key.", show_default=False)] = None,
) -> None:
    """Search for efficient vision networks. Input: a dataset and a budget. Output: a Pareto front of checkpoints.

    Commands accept the id of a search, dataset, weights or point, the end of the id,
    the name, or `latest` for the newest.
    Results go to stdout, messages to stderr.
    """
    context.obj = Session(url, key)


app.command(rich_help_panel="Service")(service.up)
app.command(rich_help_panel="Searching")(fit.fit)
app.command(rich_help_panel="Service")(demo.demo)
app.command("methods", rich_help_panel="Service")(methods.methods)
app.command("devices", rich_help_panel="Service")(devices.devices)
app.add_typer(keys.app, name="keys", rich_help_panel="Service")
app.add_typer(datasets.app, name="datasets", rich_help_panel="Searching")
app.add_typer(weights.app, name="weights", rich_help_panel="Searching")
app.command(rich_help_panel="Searching")(searches.submit)
app.command("list", rich_help_panel="Searching")(searches.list_)
app.command(rich_help_panel="Searching")(searches.show)
app.command(rich_help_panel="Searching")(watch.watch)
app.command(rich_help_panel="Searching")(searches.logs)
app.command(rich_help_panel="Searching")(search_control.pause)
app.command(rich_help_panel="Searching")(search_control.resume)
app.command(rich_help_panel="Searching")(search_control.change)
app.command(rich_help_panel="Searching")(search_control.clone)
app.command(rich_help_panel="Searching")(searches.cancel)
app.command(rich_help_panel="Searching")(searches.delete)
app.command(rich_help_panel="Results")(fronts.front)
app.command(rich_help_panel="Results")(fronts.select)
app.command(rich_help_panel="Results")(fronts.download)
app.command(rich_help_panel="Results")(exports.export)
app.command(rich_help_panel="Results")(exports.card)
app.command(rich_help_panel="Results")(exports.study)


def run() -> None:
    """The console script's entry point."""
    app()


if __name__ == "__main__":
    run()
