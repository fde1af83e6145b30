"""
The catalog as one process sees it, kept up with the control log.

There is one view per process. It reads the log by id, folds each record into the catalog, and remembers
which customers changed until their key group has taken that over.
"""

from __future__ import annotations

import time

from rating.catalog import KEY_GROUPS, Catalog, decode_record, key_group
from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement

REFRESH_SECONDS = 0.05
"""An event that can't be placed lets the view read the log, at most this often."""


class CatalogView:
    """
    Reads the control log on a connection of its own.

    Raises `psycopg.Error` where PostgreSQL is away: the process then ends and resumes from its last epoch.
    """

    def __init__(self, dsn: str) -> None:
        self.catalog = Catalog()
        self._connection = connect(dsn, autocommit=True, application_name="tollway-catalog")
        self._changed: list[set[str]] = [set() for _ in range(KEY_GROUPS)]
        self._refreshed_at = 0.0

    @property
    def version(self) -> int:
        """The id of the last control-log entry that was folded in."""
        return self.catalog.version

    def catch_up(self) -> bool:
        """Read what is new in the control log. Returns whether there was anything."""
        before = self.version
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(statement("control_entries"), (before,))
            for entry_id, body in cursor:
                customer_id = self.catalog.apply(entry_id, decode_record(body))
                if customer_id is not None:
                    self._changed[key_group(customer_id)].add(customer_id)
        self._refreshed_at = time.monotonic()
        return self.version != before

    def catch_up_to(self, head: int) -> None:
        """See at least the entry `head`."""
        if head > self.version:
            self.catch_up()

    def refresh(self) -> bool:
        """Catch up, but not more often than every `REFRESH_SECONDS`. Returns whether anything was new."""
        if time.monotonic() - self._refreshed_at < REFRESH_SECONDS:
            return False
        return self.catch_up()

    def take_changed(self, group: int) -> set[str]:
        """The customers of a key group that changed since this was last asked."""
        changed = self._changed[group]
        if changed:
            self._changed[group] = set()
        return changed

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
