"""
How the ledger is read: statements by their names, instants in UTC.

Statements run on the connection that is given, whatever its transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import psycopg
from msgspec import Struct
from psycopg.rows import dict_row

from sinks.postgres.statements import statement

Connection = psycopg.Connection[Any]

_T = TypeVar("_T", bound=Struct)


def rows(connection: Connection, name: str, values: Mapping[str, object]) -> list[dict[str, Any]]:
    """The rows of a statement, instants in UTC."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement(name), values)
        found = cursor.fetchall()
    return [{column: _utc(value) for column, value in row.items()} for row in found]


def structs(connection: Connection, name: str, values: Mapping[str, object], kind: type[_T]) -> list[_T]:
    """The rows of a statement, as structs."""
    return [msgspec.convert(row, kind) for row in rows(connection, name, values)]


def streamed(connection: Connection, name: str, values: Mapping[str, object], kind: type[_T]) -> Iterator[_T]:
    """As `structs`, a few rows at a time, so that any number of them takes little memory."""
    with connection.transaction(), connection.cursor(name, row_factory=dict_row) as cursor:
        for row in cursor.execute(statement(name), values):
            yield msgspec.convert({column: _utc(value) for column, value in row.items()}, kind)


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
