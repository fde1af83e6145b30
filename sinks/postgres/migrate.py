"""
Brings a database's schema up to date, with the `.sql` files of `migrations/` in the order of their names.

A migration and the mark that it was applied are one transaction, and whoever migrates holds an advisory lock
of the database: two processes that start at once, or a crash half way, leave nothing to repair.
"""

from __future__ import annotations

import glob
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from yoyo import default_migration_table, read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import Migration

from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x746F6C6C776179  # "tollway"


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
        connection.execute(statement("lock_for_migration"), [ADVISORY_LOCK])
        backend = _Backend(connection)
        applied = []
        for migration in backend.to_apply(read_migrations(glob.escape(str(MIGRATIONS)))):
            backend.apply_one(migration)
            applied.append(str(migration.id))
        return applied


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo on the one connection that holds the advisory lock; its own, by a row, would outlive a SIGKILL."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._given = connection
        super().__init__(parse_uri("postgresql+psycopg:///"), default_migration_table)

    def connect(self, dburi: object) -> psycopg.Connection[Any]:
        return self._given

    @contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:
        yield

    def apply_one(self, migration: Migration, force: bool = False, mark: bool = True) -> None:
        self.ensure_internal_schema_updated()
        with self.transaction():
            migration.process_steps(self, "apply", force=force)
            self.log_migration(migration, "apply")
            self.mark_one(migration, log=False)

    def get_log_data(self, migration: Migration | None = None, operation: str = "apply") -> dict[str, Any]:
        # yoyo asks the name service for the host's full name, which can take seconds, and for the user's
        # name, which a container's user need not have.
        return {
            "id": str(uuid.uuid4()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": self._given.info.user,
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }
