"""
The one way to a connection to PostgreSQL: in UTC, whatever the server, the database or the role has for a time zone.

PostgreSQL writes an instant in the session's time zone, and Python can't hold each instant in each zone: one at an end
of the years would be read in UTC and not west of it. So what is stored can be read, and rows of a text look the same,
wherever the server is.
"""

from __future__ import annotations

from typing import Any

import psycopg

from sinks.postgres.statements import statement


def connect(dsn: str, *, autocommit: bool = False, **options: Any) -> psycopg.Connection[Any]:
    """
    A connection in UTC, as `psycopg.connect` makes it.

    Raises:
        psycopg.OperationalError: PostgreSQL is away.
    """
    connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True, **options)
    try:
        # By a statement rather than by `options`, which a DSN may have and a connection pooler may refuse; and outside
        # of a transaction, which would take it back with it.
        connection.execute(statement("use_utc"))
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection
