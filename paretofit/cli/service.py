"""`paretofit up`: the complete service in the foreground."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from paretofit.client.errors import UsageError

_EXTRAS = {"server": ("fastapi", "sqlalchemy", "celery", "uvicorn"), "worker": ("torch", "optuna", "numpy")}


def up(
    devices: Annotated[
        str | None,
        typer.Option(help="Devices of the train workers: auto | cpu | cpu:N | cuda:i,j | none.", show_default="auto"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 picks a free port.", show_default="8000")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Data folder.", show_default="PARETOFIT_HOME or the state directory")
    ] = None,
    *,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the output of all processes.")] = False,
) -> None:
    """Run the complete service on this machine: PostgreSQL, Redis, API and workers. Ctrl-C stops it."""
    require_server()
    # Every process of the service reads its settings from the environment; options override it.
    options = {"DEVICES": devices, "HOST": host, "PORT": port, "HOME": home}
    os.environ.update({f"PARETOFIT_{name}": str(value) for name, value in options.items() if value is not None})

    from pydantic import ValidationError

    from paretofit.core.settings import Settings
    from paretofit.launch.up import serve

    try:
        settings = Settings()
    except ValidationError as invalid:
        raise UsageError(_readable(invalid)) from invalid
    raise typer.Exit(serve(settings, verbose=verbose))


def require_server() -> None:
    """Raise UsageError, with the install command, if only the client is installed."""
    missing = [extra for extra, modules in _EXTRAS.items() if any(find_spec(module) is None for module in modules)]
    if missing:
        raise UsageError(
            f"only the client is installed; to add the service: `pip install 'paretofit[{','.join(_EXTRAS)}]'`"
        )


def _readable(invalid: Exception) -> str:
    from pydantic import ValidationError

    if not isinstance(invalid, ValidationError):
        return str(invalid)
    fields = [f"  {'.'.join(map(str, error['loc']))}: {error['msg']}" for error in invalid.errors()]
    return "\n".join(["invalid settings:", *fields])
