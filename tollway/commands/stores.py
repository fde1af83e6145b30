"""The stores of commands that read, or that need what an earlier command set up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg

from config.settings import Settings
from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement
from tollway.console import settings
from tollway.embedded import Endpoints, servers

POSTGRES_DATA = "postgres/data"


class NothingThere(Exception):
    """There is no ledger yet to look anything up in."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"there is no ledger yet in {place}\n"
            "hint: `tollway apply FILE` makes one, or set `TOLLWAY_HOME` to the folder that has yours"
        )


def max_ahead() -> timedelta:
    """How far ahead of its arrival usage may be."""
    return timedelta(seconds=settings().max_ahead_seconds)


@contextmanager
def stores(chosen: Settings | None = None) -> Iterator[tuple[Endpoints, psycopg.Connection[Any]]]:
    """
    The servers, and a connection to the ledger.

    Raises:
        NothingThere: There is no ledger. No server is started, and no folder made, just to find that out.
        ServerError: A server can't be reached or started.
    """
    chosen = chosen or settings()
    if chosen.postgres_dsn is None and not (chosen.home / POSTGRES_DATA).is_dir():
        raise NothingThere(f"`{chosen.home}`")
    with (
        servers(chosen) as endpoints,
        connect(endpoints.postgres_dsn, autocommit=True) as connection,
    ):
        if not has_schema(connection):
            raise NothingThere("this database" if chosen.postgres_dsn else f"`{chosen.home}`")
        yield endpoints, connection


def has_schema(connection: psycopg.Connection[Any]) -> bool:
    """Whether the tables of the ledger were made."""
    found = connection.execute(statement("has_schema")).fetchone()
    return found is not None and bool(found[0])
