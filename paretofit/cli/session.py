"""The options that every command shares, and the client they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from paretofit.client.client import Client

LONG_RETRY_TIMEOUT = 300.0
"""Seconds for which a watch or a transfer outlasts a service that is away."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SearchReference = Annotated[str, typer.Argument(metavar="ID", help="Id, its end, name or `latest`.")]


@dataclass(frozen=True, slots=True)
class Session:
    """Where the service is."""

    url: str | None
    key: str | None

    def client(self, *, retry_timeout: float = 3.0) -> Client:
        """A client; ordinary commands say soon that nobody answers."""
        return Client(self.url, self.key, retry_timeout=retry_timeout)


def client(context: typer.Context, *, retry_timeout: float = 3.0) -> Client:
    """The client of this call of the command line."""
    session = context.find_object(Session)
    if session is None:
        raise RuntimeError("the command was called without its group")
    return session.client(retry_timeout=retry_timeout)
