"""The `paretofit keys` commands."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, cast, get_args

import typer

from paretofit.api.schemas.access import ApiKey, IssuedApiKey, Scope
from paretofit.cli.output import facts, print_json, say, stdout, table
from paretofit.cli.session import AsJson, client
from paretofit.client.errors import UsageError
from paretofit.client.numbers import parse_seconds

app = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke API keys.")

Duration = Annotated[str | None, typer.Option(help="Lifetime of the key, such as 90d or 12h.", show_default="never")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")]


@app.command()
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(help="Name of the key, such as its purpose.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"{' | '.join(get_args(Scope))}; may be repeated.", show_default="read, write"),
    ] = None,
    expires: Duration = None,
    tenant: Annotated[
        str | None, typer.Option(help="Tenant of the key; created if it does not exist.", show_default="yours")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is printed to stdout once and cannot be shown again."""
    scopes = scope or ["read", "write"]
    unknown = sorted(set(scopes) - set(get_args(Scope)))
    if unknown:
        raise UsageError(f"unknown scope {', '.join(unknown)}; choose from {', '.join(get_args(Scope))}")
    with client(context) as service:
        issued = service.keys.create(
            name, [cast("Scope", each) for each in scopes], expires_in_seconds=_seconds(expires), tenant=tenant
        )
    _show(issued, as_json=as_json)


@app.command("list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the keys of the tenant, newest first."""
    with client(context) as service:
        listed = list(service.keys.list())
    if as_json:
        print_json(listed)
        return
    rows = [
        (key.id, key.name, ", ".join(key.scopes), _state(key), f"{key.created_at.astimezone():%Y-%m-%d}", _used(key))
        for key in listed
    ]
    stdout().print(table(("id", "name", "scopes", "state", "created", "last used"), rows))


@app.command()
def rotate(
    context: typer.Context,
    *,
    key: KeyId,
    overlap: Annotated[str, typer.Option(help="Time for which the old key stays valid.")] = "1d",
    expires: Duration = None,
    as_json: AsJson = False,
) -> None:
    """Replace a key by a new one with the same name and scopes. The new key is printed to stdout once."""
    with client(context) as service:
        issued = service.keys.rotate(key, overlap_seconds=_seconds(overlap) or 0, expires_in_seconds=_seconds(expires))
    _show(issued, as_json=as_json)


@app.command()
def revoke(context: typer.Context, *, key: KeyId) -> None:
    """Revoke a key immediately."""
    with client(context) as service:
        service.keys.revoke(key)
    say(f"revoked {key}")


@app.command()
def whoami(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the tenant and scopes of the current key."""
    with client(context) as service:
        caller = service.keys.caller()
    if as_json:
        print_json(caller)
        return
    rows = [("tenant", caller.tenant), ("actor", caller.actor), ("scopes", ", ".join(caller.scopes))]
    stdout().print(facts([*rows, ("expires", caller.expires_at or "-")]))


def _show(issued: IssuedApiKey, *, as_json: bool) -> None:
    if as_json:
        print_json(issued)
        return
    say(f"key {issued.id} of tenant {issued.tenant}, scopes {', '.join(issued.scopes)}; it will not be shown again:")
    sys.stdout.write(f"{issued.key}\n")


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _state(key: ApiKey) -> str:
    now = datetime.now(UTC)
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    if key.expires_at <= now:
        return "expired"
    return f"valid until {key.expires_at.astimezone():%Y-%m-%d %H:%M}"


def _used(key: ApiKey) -> str:
    return "-" if key.used_at is None else f"{key.used_at.astimezone():%Y-%m-%d %H:%M}"
