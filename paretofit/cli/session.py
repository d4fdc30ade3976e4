"""The options that all commands share, and the client built from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from paretofit.client.client import Client

LONG_RETRY_TIMEOUT = 300.0
"""Seconds for which watching and transfers retry while the service is unavailable."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SearchReference = Annotated[str, typer.Argument(metavar="ID", help="Id, end of an id, name or `latest`.")]


@dataclass(frozen=True, slots=True)
class Session:
    """The URL and API key of the service."""

    url: str | None
    key: str | None

    def client(self, *, retry_timeout: float = 3.0) -> Client:
        """A client. The default timeout is short, so that ordinary commands fail fast."""
        return Client(self.url, self.key, retry_timeout=retry_timeout)


def client(context: typer.Context, *, retry_timeout: float = 3.0) -> Client:
    """The client for the current command."""
    session = context.find_object(Session)
    if session is None:
        raise RuntimeError("the command was invoked outside the `paretofit` group")
    return session.client(retry_timeout=retry_timeout)
