"""Sealed segments of event ids in the ledger: there as long as a snapshot may name them, and no longer."""

from __future__ import annotations

import psycopg

from rating.outcome import Outcome, SeenIds
from sinks.postgres.ledger import Ledger, load_seen_ids, rows_of
from tests.conftest import Stores
from tests.engine_runs import query


def seal(ledger: Ledger, *sealed: SeenIds) -> None:
    """Write segments as the flow does."""
    outcome = Outcome()
    outcome.seen += sealed
    ledger.write(rows_of(outcome, 0, 1))


def kept(stores: Stores) -> list[tuple[int, bool]]:
    """The segments of key group 3, and whether each is forgotten."""
    return query(
        stores, "select segment, forgotten_at is not null from seen_ids where key_group = %s order by segment", 3
    )


def a_day_passes(stores: Stores) -> None:
    """Let what is forgotten be so for longer than it is kept."""
    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        connection.execute("update seen_ids set forgotten_at = forgotten_at - interval '25 hours'")


def test_what_is_forgotten_goes_a_day_later(stores: Stores) -> None:
    """Only of the same key group, and only with the next segment that is sealed."""
    ledger = Ledger(stores.postgres_dsn)
    seal(ledger, *(SeenIds(3, number, b"ids", 1) for number in (1, 2, 3)), SeenIds(4, 1, b"others", 1))
    seal(ledger, SeenIds(3, 4, b"ids", 3))
    assert kept(stores) == [(1, True), (2, True), (3, False), (4, False)]
    a_day_passes(stores)
    seal(ledger, SeenIds(3, 5, b"ids", 4))
    assert kept(stores) == [(3, True), (4, False), (5, False)]
    assert load_seen_ids(stores.postgres_dsn, 4, [1]) == [b"others"]
    ledger.close()


def test_what_a_snapshot_still_names_stays(stores: Stores) -> None:
    """A flow that goes on from before a segment was forgotten needs it, however long it takes to seal the next."""
    ledger = Ledger(stores.postgres_dsn)
    seal(ledger, *(SeenIds(3, number, bytes([number]), 1) for number in (1, 2)))
    seal(ledger, SeenIds(3, 3, b"\3", 3))
    assert load_seen_ids(stores.postgres_dsn, 3, [1, 2]) == [b"\1", b"\2"]
    a_day_passes(stores)
    seal(ledger, SeenIds(3, 3, b"again", 1))
    assert kept(stores) == [(1, False), (2, False), (3, False)]
    assert load_seen_ids(stores.postgres_dsn, 3, [3]) == [b"again"]
    ledger.close()
