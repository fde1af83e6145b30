"""
The control plane: the catalog is changed here, one transaction at a time.

What is checked, and what a change comes to, is said where the resource is: `plans.py`, `grants.py` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from tollway.control.changes import Changes
from tollway.control.sessions import Sessions
from tollway.control.transaction import DEFAULT_MAX_AHEAD, utc_now


class ControlPlane:
    """
    Changes the catalog; safe to share between threads.

    A transaction that has ended has changed the catalog durably, and whatever is sent afterwards is rated with the
    change in view. Raises `ControlError` for what cannot be, and `psycopg.Error` where PostgreSQL is away.
    """

    def __init__(
        self,
        postgres_dsn: str,
        redis_url: str,
        now: Callable[[], datetime] = utc_now,
        max_ahead: timedelta = DEFAULT_MAX_AHEAD,
    ) -> None:
        self._sessions = Sessions(postgres_dsn, redis_url, now, max_ahead)

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._sessions.close()

    def changing(self) -> AbstractContextManager[Changes]:
        """
        One transaction. What is called on the result takes effect together.

        Any exception undoes all of it. Within a transaction, this joins it.
        """
        return self._sessions.changing()
