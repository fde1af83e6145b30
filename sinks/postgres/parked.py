"""
Events that wait, as the redrive finds them and changes them: by index, a bounded number at a time.

Nothing is locked while it is decided about: what a row was found to be is compared when it is changed, and a row that
the dataflow has touched meanwhile is left for the next look. So the dataflow never waits for a decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement

LOCK_TIMEOUT_MS = 200
"""Less than PostgreSQL takes to see a deadlock: it is the redrive that gives way, never the dataflow."""

# A table that has just been filled has no statistics yet, and none of these statements is to read it as a whole.
_OPTIONS = f"-c lock_timeout={LOCK_TIMEOUT_MS} -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"

Identity = tuple[str, str, str, str]
"""Owner, source, id and meter."""


class WaitingRow(NamedTuple):
    """A row as it was found, without its bytes."""

    owner: str
    source: str
    id: str
    meter: str
    control_version: int
    subject: str
    customer_id: str | None
    reason: str
    event_time: datetime
    received_at: datetime
    event_type: str
    """Empty in a row of before this column was there."""
    bytes: int
    read_version: int
    """The entry of the control log that had at least been seen when the event was read, and had to wait."""

    @property
    def identity(self) -> Identity:
        """What the row is known by."""
        return self[:4]


class WaitsOn(NamedTuple):
    """What a row was found to wait for."""

    row: WaitingRow
    customer_id: str | None
    reason: str
    message: str
    seen_to: int
    """The entry of the control log that had been seen."""
    event_type: str
    received_at: datetime


class ParkedRows:
    """A connection of the redrive's own."""

    def __init__(self, dsn: str) -> None:
        self._connection = connect(dsn, autocommit=True, application_name="tollway-redrive", options=_OPTIONS)

    def position(self) -> int:
        """The entry of the control log up to which looks are done."""
        return int(self._run("redrive_position", {})[0][0])

    def announce(self, noted_to: int) -> None:
        """Looks for the entries up to here begin. Whatever was parked before and is not unseen can be seen then."""
        with self._connection.transaction():
            # Nothing else is locked here, so that it may wait for a dataflow that is just writing.
            self._connection.execute(statement("wait_for_locks"))
            self._do("redrive_announce", {"noted_to": noted_to})

    def looked(self, looked_to: int) -> None:
        """Looks for the entries up to here are done."""
        self._connection.execute(statement("redrive_looked"), (looked_to,) * 2)

    def entries(self, after: int, count: int) -> list[tuple[int, str]]:
        """Entries of the control log, with their bodies."""
        return self._connection.execute(statement("redrive_entries"), (after, count)).fetchall()

    def of_customers(self, keys: Sequence[str], before: Sequence[int], rows_max: int) -> list[WaitingRow]:
        """Rows of customers, each last looked at before an entry."""
        return self._found("redrive_by_customer", keys=keys, before=before, rows_max=rows_max)

    def of_subjects(self, keys: Sequence[str], before: Sequence[int], rows_max: int) -> list[WaitingRow]:
        """Rows of subjects, each last looked at before an entry."""
        return self._found("redrive_by_subject", keys=keys, before=before, rows_max=rows_max)

    def of_meters(
        self, keys: Sequence[str], before: Sequence[int], meters: Sequence[str], rows_max: int
    ) -> list[WaitingRow]:
        """Rows that wait for a feature of meters, by the type of their events."""
        return self._found("redrive_by_meter", keys=keys, before=before, meters=meters, rows_max=rows_max)

    def unseen(self, rows_max: int) -> list[WaitingRow]:
        """Rows that are to be looked at for their own sake."""
        return self._found("redrive_unseen", rows_max=rows_max)

    def bytes_of(self, rows: Sequence[WaitingRow]) -> dict[Identity, bytes]:
        """The bytes of rows, of those that are as they were found."""
        return {found[:4]: found[4] for found in self._run("redrive_bytes", _identities(rows))}

    def leave(self, rows: Sequence[WaitingRow], append: Callable[[dict[Identity, bytes]], None]) -> int:
        """
        Let rows leave whose events go back to the log.

        The order is what makes it safe: (1) the rows are locked, so that nobody changes them; (2) their events are
        durable in the log; (3) the rows are deleted. A crash between (2) and (3) appends them again, and the second
        is a duplicate.

        Returns:
            How many left; the others were touched by the dataflow, and are found again.
        """
        with self._connection.transaction():
            locked = {found[:4]: found[4] for found in self._run("redrive_lock", _identities(rows))}  # (1)
            if locked:
                append(locked)  # (2)
                owners, sources, ids, meters = zip(*locked, strict=True)
                named = {"owners": owners, "sources": sources, "ids": ids, "meters": meters}
                self._do("redrive_delete", {name: list(values) for name, values in named.items()})  # (3)
        return len(locked)

    def wait_on(self, found: Sequence[WaitsOn]) -> int:
        """
        Keep what rows wait for now.

        Returns:
            How many were found to be another event than the one with their id that waits already.
        """
        stays = [one for one in found if one.customer_id == one.row.customer_id]
        moves = [one for one in found if one.customer_id != one.row.customer_id]
        if stays:
            self._do("redrive_wait_on", _looked(stays))
        if not moves:
            return 0
        values = _looked(moves) | {"customers": [one.customer_id for one in moves]}
        return int(self._run("redrive_change_owner", values)[0][0])

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _found(self, name: str, **values: Any) -> list[WaitingRow]:
        found = self._run(
            name, {key: [*value] if isinstance(value, list | tuple) else value for key, value in values.items()}
        )
        return [
            WaitingRow(*row)._replace(event_time=row[8].astimezone(UTC), received_at=row[9].astimezone(UTC))
            for row in found
        ]

    def _run(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement(name), values).fetchall()

    def _do(self, name: str, values: dict[str, Any]) -> None:
        self._connection.execute(statement(name), values)


def _identities(rows: Iterable[WaitingRow]) -> dict[str, list[Any]]:
    found = [row[:5] for row in rows]
    names = ("owners", "sources", "ids", "meters", "versions")
    return {name: [row[place] for row in found] for place, name in enumerate(names)}


def _looked(found: Sequence[WaitsOn]) -> dict[str, list[Any]]:
    return _identities(one.row for one in found) | {
        "reasons": [one.reason for one in found],
        "messages": [one.message for one in found],
        "seen_to": [one.seen_to for one in found],
        "types": [one.event_type for one in found],
        "received": [one.received_at for one in found],
    }
