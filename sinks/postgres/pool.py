"""A few connections to PostgreSQL that threads share, one user at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue
from typing import Any, Final

import psycopg

from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement

IDLE_SECONDS: Final = 1.0
"""A connection that rested so long is asked whether it still is one."""


class Busy(Exception):
    """All connections to PostgreSQL are in use."""


Slot = tuple[psycopg.Connection[Any] | None, float]


class Pool:
    """
    At most `size` connections, opened when needed; one that broke is replaced by the next who comes.

    Args:
        dsn: The database.
        size: How many.
        wait_seconds: How long to wait for a free one.
        answer_seconds: How long a statement may take; PostgreSQL ends it then, and so the thread that waits for it.
    """

    def __init__(self, dsn: str, size: int = 10, wait_seconds: float = 5.0, answer_seconds: int = 30) -> None:
        self._dsn = dsn
        self._wait_seconds = wait_seconds
        self._answer_seconds = answer_seconds
        self._free: LifoQueue[Slot] = LifoQueue()
        self._size = size
        for _ in range(size):
            self._free.put((None, 0.0))

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """
        A connection, in autocommit.

        Raises:
            Busy: All of them are in use.
            psycopg.OperationalError: PostgreSQL is away.
        """
        try:
            held, rested_since = self._free.get(timeout=self._wait_seconds)
        except Empty:
            raise Busy from None
        connection: psycopg.Connection[Any] | None = None
        try:
            connection = self._usable(held, rested_since)
            yield connection
        finally:
            if connection is None and held is not None:
                held.close()
            if connection is not None and (connection.closed or connection.broken):
                connection.close()
                connection = None
            self._free.put((connection, time.monotonic()))

    def _usable(self, held: psycopg.Connection[Any] | None, rested_since: float) -> psycopg.Connection[Any]:
        if held is not None and not held.closed:
            if time.monotonic() - rested_since < IDLE_SECONDS:
                return held
            try:
                held.execute(statement("is_alive"))
            except psycopg.OperationalError:
                held.close()
            else:
                return held
        return self.connect()

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection, which is the caller's to close. Raises `psycopg.OperationalError`."""
        connection: psycopg.Connection[Any] = connect(
            self._dsn,
            autocommit=True,
            connect_timeout=5,
            application_name="tollway-api",
            # A server that is gone without a word is noticed by what it does not confirm.
            tcp_user_timeout=self._answer_seconds * 1000,
            keepalives_idle=self._answer_seconds,
        )
        # By a statement rather than by `options`, which a DSN may have and a connection pooler may refuse.
        connection.execute(statement("limit_time", seconds=str(self._answer_seconds)))
        return connection

    def close(self) -> None:
        """End the connections that rest."""
        for _ in range(self._size):
            try:
                held, _since = self._free.get_nowait()
            except Empty:
                return
            if held is not None:
                held.close()
