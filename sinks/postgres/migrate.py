"""
Brings a database's schema up to date, with the `.sql` files of `migrations/` in the order of their names.

A migration and the mark that it was applied are one transaction, and whoever migrates holds an advisory lock of the
database: two processes that start at once, or a crash half way, leave nothing to repair. Decision 35 says why this is
no library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import psycopg

from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK_ID: Final = 0x746F6C6C776179  # "tollway"


def migrate(dsn: str) -> list[str]:
    """
    Apply the migrations that a database does not have yet.

    Args:
        dsn: The database, in any form that libpq reads.

    Returns:
        The names of the migrations applied now, in order; empty if all were.

    Raises:
        psycopg.Error: The database can't be reached, or it refuses a migration, which then left no trace.
    """
    with connect(dsn, autocommit=True, application_name="tollway-migrate") as connection:
        # Held until the connection ends, however it ends.
        connection.execute(statement("lock_for_migration"), [MIGRATION_LOCK_ID])
        missing = _missing(connection)
        for file in missing:
            with connection.transaction():
                connection.execute(file.read_bytes())
                connection.execute(statement("mark_migration"), [file.stem])
        return [file.stem for file in missing]


def _missing(connection: psycopg.Connection[Any]) -> list[Path]:
    with connection.transaction():
        connection.execute(statement("create_migrations"))
        applied = {name for (name,) in connection.execute(statement("applied_migrations"))}
    return [file for file in sorted(MIGRATIONS.glob("*.sql")) if file.stem not in applied]
