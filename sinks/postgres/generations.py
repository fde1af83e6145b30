"""
The generation of the ledger: which history it is in.

A revision orders what one history said of a customer. A restore of PostgreSQL, and a rebuild of the recovery store, go
on from an older state with smaller revisions: that is another history, with a greater generation. Whoever orders rows
outside of the ledger does so by generation, then by revision.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
from msgspec import Struct

from rating.dedup import Reread
from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement


class LedgerState(Struct, frozen=True):
    """Where the ledger stands. All but the generation and its history only grows within one history."""

    generation: int
    """0: no dataflow that knows of generations has run on it yet."""
    history: str
    commits: int
    """How many commits of the dataflow it holds."""
    control_head: int
    """The newest entry of its control log."""


def read_state(connection: psycopg.Connection[Any]) -> LedgerState:
    """Where the ledger stands now."""
    row = connection.execute(statement("read_generation")).fetchone()
    assert row is not None, "the statement gives one row"
    number, history, commits, control_head = row
    return LedgerState(number or 0, history or "", commits, control_head)


def raise_generation(
    connection: psycopg.Connection[Any], why: str, above: int = 0, read_from: datetime | None = None
) -> int:
    """
    Begin another history, within the connection's transaction.

    Args:
        connection: To the ledger.
        why: In a sentence, for people.
        above: A generation that a reader has seen.
        read_from: Where the log is read again: events that were received after this instant surely are.

    Returns:
        The new generation: above that, and above all that the ledger had.
    """
    values = {"why": why, "above": above, "read_from": read_from}
    row = connection.execute(statement("raise_generation"), values).fetchone()
    assert row is not None, "the row that was inserted is returned"
    return int(row[0])


def read_rereads(dsn: str) -> tuple[Reread, ...]:
    """The histories in which the log was read again."""
    with connect(dsn, autocommit=True, application_name="tollway-history") as connection:
        found = connection.execute(statement("rereads")).fetchall()
    return tuple(Reread(read_from.astimezone(UTC), control_version) for read_from, control_version in found)
