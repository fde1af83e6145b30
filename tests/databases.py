"""
Empty, migrated databases for tests, on one server.

Making one takes PostgreSQL a tenth of a second, and dropping it another. So a test gets the database that the test
before it left, emptied, unless that one changed the schema: then it is dropped, and the next test gets a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from sinks.postgres.migrate import migrate

TEMPLATE = "template_migrated"
END_MS = 10_000
"""So long a session that is ended has to be gone."""

# What a change of the schema leaves other than it was; `truncate`, `vacuum` and temporary tables do not.
SCHEMA = """
select (select count(*) from pg_class), (select count(*) from pg_proc), (select count(*) from pg_trigger),
       (select count(*) from pg_namespace where nspname !~ '^pg_(toast_)?temp_'),
       array(select (attrelid, attnum, xmin)::text from pg_attribute where attrelid >= 16384 order by 1),
       array(select (oid, xmin)::text from pg_constraint where oid >= 16384 order by 1)
"""


class Databases:
    """The databases of a server that is only for tests."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._numbers = count(1)
        self._spare: tuple[str, Any] | None = None
        """The name of an empty database, and its schema."""
        with self._connected() as connection:
            connection.execute(f"create database {TEMPLATE}".encode())
        migrate(self._of(TEMPLATE))
        with self._connected(TEMPLATE) as connection:
            tables = [name for (name,) in connection.execute("select relname from pg_stat_user_tables").fetchall()]
            noted = _filled(connection, tables)  # which migrations there are
        self._tables = [table for table in tables if table not in noted]

    @contextmanager
    def lent(self) -> Iterator[str]:
        """A database with nothing in it, for as long as the block takes. Whoever is connected after that is cut off."""
        name, schema = self._spare or self._made()
        self._spare = None
        yield self._of(name)
        if self._emptied(name, schema):
            self._spare = name, schema
        else:
            with self._connected() as connection:
                connection.execute(f"drop database if exists {name} with (force)".encode())

    def _made(self) -> tuple[str, Any]:
        name = f"test_{next(self._numbers)}"
        with self._connected() as connection:
            connection.execute(f"create database {name} template {TEMPLATE}".encode())
        with self._connected(name) as connection:
            return name, connection.execute(SCHEMA).fetchone()

    def _emptied(self, name: str, schema: Any) -> bool:
        """Empty a database, with sequences at their start. Returns whether it is as one that is new."""
        try:
            with self._connected(name) as connection:
                connection.execute(
                    "select pg_terminate_backend(pid, %s) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()",
                    (END_MS,),
                )
                if connection.execute(SCHEMA).fetchone() != schema:
                    return False
                if filled := _filled(connection, self._tables):
                    connection.execute(f"truncate {', '.join(filled)} cascade".encode())
                connection.execute("select setval(seqrelid, seqstart, false) from pg_sequence")
                return True
        except psycopg.Error:
            return False

    @contextmanager
    def _connected(self, database: str = "") -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self._of(database) if database else self._dsn, autocommit=True) as connection:
            yield connection

    def _of(self, database: str) -> str:
        return make_conninfo(self._dsn, dbname=database)


def _filled(connection: psycopg.Connection[Any], tables: list[str]) -> list[str]:
    """Which tables have rows."""
    asked = " union all ".join(f"select '{table}' where exists (select from {table})" for table in tables)
    return [table for (table,) in connection.execute(asked.encode())]
