"""Windows that left the state: read back from the ledger as they were told, and given back where a commit is undone."""

from __future__ import annotations

from decimal import Decimal

import psycopg

from rating.catalog import SettlementMode
from rating.outcome import ChargeRow, Outcome
from rating.windows import windows_that_left
from sinks.postgres.ledger import Ledger, WindowLoader, rewind, rows_of
from tests.conftest import Stores
from tests.engine_runs import query
from tests.simulation.settling import HOUR, World, card, customer, event, grant, metered, plan, subscription
from tests.world import START

D = Decimal
INVOICE = SettlementMode.CREDIT_THEN_INVOICE


def used() -> World:
    """Five hours of usage, one with a grant that begins within it, and late usage of the first."""
    records = [*metered("a"), plan(card("a")), customer(), subscription(INVOICE)]
    world = World(*records, grant("g", 3, START + HOUR + HOUR / 3))
    for number in range(10):
        world.beat(START + number * HOUR / 2)
        world.use(event(str(number), "a", number + 1, world.now))
    world.use(event("late", "a", 100, START))
    return world


def write(ledger: Ledger, rows: list[ChargeRow], sequence: int) -> None:
    outcome = Outcome()
    outcome.charges += rows
    ledger.write(rows_of(outcome, 0, sequence) | {("sink_commits", 0): (0, sequence)})


def test_windows_come_back_as_they_were_told(stores: Stores) -> None:
    """With the parts that grants cut them into, to the last digit, and only where they add up to what left."""
    world = used()
    rows = sorted(world.charges.values(), key=lambda row: row.window_start)
    assert any(row.parts for row in rows)
    ledger = Ledger(stores.postgres_dsn)
    (meter,) = world.group.accounts["customer"].state.periods
    load = WindowLoader(stores.postgres_dsn)
    assert load("customer", meter.key) == []
    write(ledger, rows[1:], 1)
    assert windows_that_left(meter, load("customer", meter.key), 3600) is None
    write(ledger, rows, 2)
    found = load("customer", meter.key)
    assert found == rows
    left = windows_that_left(meter, found, 3600)
    assert left is not None
    open_windows = {part.window_start for part in meter.slices}
    assert [part.window_start for part in left] == sorted(part.window_start for part in left)
    assert not open_windows & {part.window_start for part in left}
    assert sum((part.amount for part in left), D(0)) == meter.amount - sum((s.amount for s in meter.slices), D(0))
    load.close()
    ledger.close()


def test_a_row_that_replaced_one_the_state_has_no_more_gives_it_back(stores: Stores) -> None:
    """After a crash, and after going back by several commits; rows of windows that were open all the time go."""
    rows = sorted(used().charges.values(), key=lambda row: row.window_start)[:2]
    ledger = Ledger(stores.postgres_dsn)
    for sequence, amount in ((1, 1), (3, 30), (5, 50)):
        told = [
            row._replace(amount=D(amount), revision=sequence, was_left=number == 0 and sequence > 1)
            for number, row in enumerate(rows)
        ]
        write(ledger, told, sequence)
    ledger.take_back(0, 4)
    assert query(stores, "select amount, sink_seq from charges order by window_start") == [(D(30), 3)]
    with psycopg.connect(stores.postgres_dsn) as connection:
        rewind(connection, {0: 2})
    assert query(stores, "select amount, sink_seq from charges order by window_start") == [(D(1), 1)]
    with psycopg.connect(stores.postgres_dsn) as connection:
        rewind(connection, {})
    assert query(stores, "select count(*) from charges") == [(0,)]
    ledger.close()
