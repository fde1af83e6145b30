"""A subject changes hands, and customers have ids in common, on real servers: over restarts and a rebuild."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from typing import Any

import pytest

from dataflows.engine import stream_source
from dataflows.recovery.copies import copy_store
from dataflows.recovery.rebuild import rebuild
from rating.catalog import Record, SettlementMode, key_group
from tests.conftest import Stores
from tests.engine_runs import append, drain, engine_process, query, visible, wait_for, write_records
from tests.simulation.settling import card, customer, event, metered, plan, subscription
from tests.waiting import PATIENCE_SECONDS
from tests.world import MONTH, NOW

D = Decimal


def neighbour(customer_id: str, same_group: bool) -> str:
    """The id of another customer, of the same key group or of another one."""
    names = (f"neighbour-{number}" for number in range(10_000))
    return next(name for name in names if (key_group(name) == key_group(customer_id)) == same_group)


def subscribed(customer_id: str) -> Record:
    mode = SettlementMode.CREDIT_THEN_INVOICE
    return subscription(mode, MONTH, name=f"s-{customer_id}", customer_id=customer_id)


def owning(customer_id: str, *subjects: str, at: datetime = MONTH) -> Record:
    return customer(subjects, customer_id, key=f"key-{customer_id}", recorded_at=at)


def usage(name: str, amount: int, at: datetime | None, subject: str = "s") -> dict[str, Any]:
    return event(name, "a", amount, at or NOW, subject) | ({"time": None} if at is None else {})


def used(stores: Stores) -> dict[str, Decimal]:
    """What the ledger has of each customer."""
    return dict(query(stores, "select customer_id, sum(usage) from usage_periods group by customer_id"))


@pytest.mark.parametrize("same_group", [True, False])
def test_usage_stays_with_who_had_the_subject_at_its_time(stores: Stores, same_group: bool) -> None:
    """Late usage of before, the same bytes again, and usage without a time; by the flow, its restart and a rebuild."""
    one, other = "one", neighbour("one", same_group)
    write_records(
        stores,
        [*metered("a"), plan(card("a")), owning(one, "s"), owning(other), subscribed(one), subscribed(other)],
    )
    span = NOW - MONTH
    before = [usage(f"before-{number}", 1, MONTH + span * number / 100) for number in range(100)]
    append(stores, before[:50])
    drain(stores)
    copy_store(stores.settings.home / "recovery", stores.postgres_dsn, datetime.now(UTC))
    append(stores, [*before[50:], usage("without-1", 1000, None)])
    drain(stores)
    assert used(stores) == {one: D(1100)}
    moved_at = datetime.now(UTC)
    write_records(stores, [owning(one, at=moved_at), owning(other, "s", at=moved_at)])
    late = [usage(f"late-{number}", 1, MONTH + span * number / 100) for number in range(100)]
    after = [usage(f"before-{number}", 5, moved_at) for number in range(20)]
    append(stores, [*late[:50], *after, *before])
    with engine_process(stores) as process:
        wait_for(lambda: used(stores) == {one: D(1150), other: D(100)}, "what was sent while it was down")
        append(stores, [*late, *after, usage("without-2", 1000, None)])
        wait_for(lambda: used(stores) == {one: D(1200), other: D(1100)}, "what was sent since")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    for has_copy in (True, False):
        shutil.rmtree(stores.settings.home / "recovery")
        if not has_copy:
            query(stores, "delete from recovery_copies returning 1")
        source = stream_source(stores.settings, stores.redis_url, Event(), drain=True)
        made = rebuild(stores.settings.home / "recovery", stores.postgres_dsn, {"events": source}, 4)
        assert (made.copy is not None) == has_copy
        drain(stores)
        assert used(stores) == {one: D(1200), other: D(1100)}
    assert query(stores, "select count(*) from parked_events") == [(0,)]
    assert query(stores, "select count(*) from dead_letters") == [(0,)]


@pytest.mark.parametrize("same_group", [True, False])
def test_an_id_that_two_customers_have_is_an_event_of_each(stores: Stores, same_group: bool) -> None:
    """Each is rated once, over a restart too; what came with other content is kept for each."""
    names = ("one", neighbour("one", same_group))
    write_records(stores, [*metered("a"), plan(card("a")), *map(owning, names), *map(subscribed, names)])
    sent = [usage("shared", 10, NOW, f"key-{name}") for name in names]
    append(stores, sent)
    drain(stores)
    append(stores, [*sent, *(usage("shared", 11, NOW, f"key-{name}") for name in names)])
    drain(stores)
    assert used(stores) == dict.fromkeys(names, D(10))
    assert query(stores, "select reason from dead_letters") == [("duplicate_mismatch",)] * 2


def test_a_subject_that_was_let_go_waits_for_its_next_owner(stores: Stores) -> None:
    """Its usage since is parked as that of nobody; who takes it has all of it, and the former owner none."""
    one, other = "one", neighbour("one", same_group=False)
    write_records(
        stores,
        [*metered("a"), plan(card("a")), owning(one, "s"), owning(other), subscribed(one), subscribed(other)],
    )
    with engine_process(stores) as process:
        wait_for(lambda: visible(stores, f"key-{one}"), "the first balance")
        append(stores, [usage("1", 1, NOW)])
        wait_for(lambda: used(stores) == {one: D(1)}, "the first event")
        write_records(stores, [owning(one, at=datetime.now(UTC))])
        append(stores, [usage("2", 10, datetime.now(UTC)), usage("3", 100, NOW), usage("4", 1000, None)])
        waiting = "select id from parked_events where reason = 'unknown_subject' and owner = 'subject:s' order by id"
        wait_for(lambda: query(stores, waiting) == [("2",), ("4",)], "two to wait")
        wait_for(lambda: used(stores) == {one: D(101)}, "late usage of the former owner")
        write_records(stores, [owning(other, "s", at=datetime.now(UTC))])
        wait_for(lambda: used(stores) == {one: D(101), other: D(1010)}, "what waited")
        wait_for(lambda: query(stores, waiting) == [], "nothing to wait")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
