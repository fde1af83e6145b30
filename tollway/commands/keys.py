"""API keys: made, listed, revoked."""

from __future__ import annotations

from typing import Annotated

import redis
import typer

from sinks.postgres.migrate import migrate
from tollway.api.server.keys import NAME_CHARACTERS_MAX, ApiKey, Role, create_key, list_keys, revoke_key
from tollway.commands.stores import stores
from tollway.console import print_json, print_table, say, settings, show
from tollway.embedded import servers

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(
    help="Make, list and revoke keys of the HTTP API.\n\nExample: tollway key create --role ingest --name gateway",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("create")
def create(
    role: Annotated[Role, typer.Option(help="What it may do: send events, read, or everything.")],
    name: Annotated[str, typer.Option(help="Who it is for.")] = "",
    as_json: Json = False,
) -> None:
    """
    Make an API key, and print it. It is shown this once, and kept nowhere: only a digest of it is.

    `ingest` sends events and asks the gate, `read` reads everything, `admin` does everything.

    Example: tollway key create --role ingest --name gateway
    """
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise typer.BadParameter(f"`--name`: expected at most {NAME_CHARACTERS_MAX} printable characters")
    chosen = settings()
    with servers(chosen, report=say) as endpoints:
        migrate(endpoints.postgres_dsn)
        with stores(chosen) as (_, connection), redis.Redis.from_url(endpoints.redis_url) as client:
            made, whole = create_key(connection, client, role, name)
    say(f"Made the API key {made.id} for `{made.role}`. Keep it well: it is not shown again.")
    if as_json:
        print_json(_shown(made) | {"key": whole})
    else:
        typer.echo(whole)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """
    List all API keys, also those that were revoked, without their secrets.

    Example: tollway key list
    """
    with stores() as (_, connection):
        found = [_shown(key) for key in list_keys(connection)]
    if as_json:
        print_json(found)
        return
    columns = ["id", "role", "name", "created", "revoked"]
    print_table("API keys", columns, [list(key.values()) for key in found])


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `tollway key list` shows it.")],
    as_json: Json = False,
) -> None:
    """
    Revoke an API key: within a second it opens nothing any more.

    Example: tollway key revoke k3vq7d2a
    """
    with stores() as (endpoints, connection), redis.Redis.from_url(endpoints.redis_url) as client:
        revoked = revoke_key(connection, client, key_id)
    if as_json:
        print_json(_shown(revoked))
    else:
        show(f"Revoked the API key {revoked.id}.")


def _shown(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "role": str(key.role),
        "name": key.name,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
