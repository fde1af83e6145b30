"""
Who may change the catalog when: one transaction at a time.

Threads queue here for the one connection that writes, and processes queue at the lock in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import RLock
from typing import Any

import psycopg

from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement
from tollway.control.changes import Changes
from tollway.control.head import ControlHead
from tollway.control.writing import queue_up


class Sessions:
    """
    The connections of a control plane, opened when they are needed, and again when they were lost.

    Args:
        postgres_dsn: A migrated database.
        redis_url: Where the head of the control log is.
        now: Tells the instant it is.
    """

    def __init__(self, postgres_dsn: str, redis_url: str, now: Callable[[], datetime], max_ahead: timedelta) -> None:
        self._dsn = postgres_dsn
        self._now = now
        self._max_ahead = max_ahead
        self._head = ControlHead(redis_url)
        self._writer: psycopg.Connection[Any] | None = None
        self._writer_lock = RLock()
        self._changes: Changes | None = None

    def close(self) -> None:
        """End the connections."""
        if self._writer is not None:
            self._writer.close()
        self._head.close()

    @contextmanager
    def changing(self) -> Iterator[Changes]:
        """One transaction, undone by any exception. Within a transaction of this thread, this joins it."""
        with self._writer_lock:
            if self._changes is not None:
                yield self._changes
                return
            self._writer = connection = self._connected(self._writer)
            try:
                with connection.transaction():
                    # (1) Queue up before any entry gets its id, so that ids become visible in order.
                    queue_up(connection)
                    # (2) Check against what is there, and record what shall be.
                    self._changes = changes = Changes(connection, self._now)
                    changes.max_ahead = self._max_ahead
                    yield changes
                    # (3) Write the log, the catalog rows and the notice.
                    head = changes.flush()
                # (4) All of it is committed.
            finally:
                self._changes = None
        # (5) Events sent after this returns find the head raised. It is raised even where nothing had to be
        #     written, since the one who wrote that may not have come this far yet.
        self._head.raise_to(head)

    def _connected(self, connection: psycopg.Connection[Any] | None) -> psycopg.Connection[Any]:
        if connection is not None and not connection.closed:
            try:
                connection.execute(statement("is_alive"))
            except psycopg.OperationalError:
                connection.close()
            else:
                return connection
        return connect(self._dsn, autocommit=True, application_name="tollway-control")
