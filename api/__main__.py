"""`python -m paretofit.api` serves HTTP on PARETOFIT_HOST and PARETOFIT_PORT until SIGTERM or SIGINT."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from paretofit.api import binding
from paretofit.core import tracing
from paretofit.core.logging import configure_logging
from paretofit.core.settings import Settings, get_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

_GRACE_SECONDS = 10


class _Server(uvicorn.Server):
    """Ends the event streams on shutdown; otherwise their clients would delay it."""

    def __init__(self, config: uvicorn.Config, release: Callable[[], None]) -> None:
        super().__init__(config)
        self._release = release

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._release()
        await super().shutdown(sockets)


def _create_app(settings: Settings) -> FastAPI:
    """The application, imported after the address was checked, as the import takes most of the startup."""
    # Imports create no garbage; collecting would take a tenth of the time.
    gc.disable()
    from paretofit.api.app import create_app

    app = create_app(settings)
    gc.freeze()
    gc.enable()
    return app


def main() -> int:
    """Exit status: 0 after a signal, 1 if it cannot serve, 2 for invalid settings."""
    # After a graceful shutdown, Uvicorn raises the signal again for earlier handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = get_settings()
        configure_logging(settings.log_level)
        listener = binding.listen(settings)
        tracing.configure("api", settings.otlp_url)
        app = _create_app(settings)
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    config = uvicorn.Config(
        app,
        backlog=binding.BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    sys.stdout.write(f"listening on {binding.url(listener)}\n")
    sys.stdout.flush()
    with listener:
        _Server(config, app.state.services.notifications.close).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
