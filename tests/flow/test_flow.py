"""The flow on a real Valkey and a real PostgreSQL."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import redis
from bytewax.inputs import AbortExecution

from dataflows.engine import run_engine
from dataflows.sources.streams import StreamPartition
from rating.catalog import Customer, Grant, Subscription
from rating.events import BYTE_ORDER_MARK
from tests.conftest import Stores
from tests.engine_runs import (
    append,
    check_ledger,
    drain,
    engine_process,
    query,
    visible,
    wait_for,
    write_records,
)
from tests.waiting import PATIENCE_SECONDS
from tests.world import MONTH, NOW, catalog_records, customer_records, events, line

CUSTOMERS = 8


def world(*grants: str) -> list[Any]:
    """The catalog with some customers, subscribed since the beginning of the period that is running."""
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, tuple(map(Decimal, grants)), start=MONTH)
    return records


def usage(seed: int, count: int) -> list[dict[str, Any]]:
    """Events of the period that is running, up to now."""
    return list(events(random.Random(seed), count, CUSTOMERS, MONTH, NOW - MONTH))


def test_the_ledger_and_the_balances_are_the_oracles(stores: Stores) -> None:
    """Events with duplicates and disorder, through the whole pipeline."""
    write_records(stores, world("50", "150"))
    stream = usage(1, 3000)
    chance = random.Random(1)
    sent = stream + chance.sample(stream, 300)
    chance.shuffle(sent)
    append(stores, sent)
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_a_second_run_goes_on_where_the_first_ended(stores: Stores) -> None:
    """Offsets and state come from the recovery store; ids are remembered across runs, also in sealed segments."""
    write_records(stores, world("500"))
    stream = usage(2, 40_000)
    append(stores, stream[:30_000])
    drain(stores)
    assert query(stores, "select count(*) from seen_ids")[0][0] > 0
    append(stores, stream[20_000:])
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_an_abort_in_the_middle_leaves_the_same_ledger(stores: Stores, monkeypatch: Any) -> None:
    """The flow is aborted between epochs, twice, as a crash would; what was written ahead is taken back."""
    write_records(stores, world("50", "150"))
    stream = usage(3, 6000)
    append(stores, stream)
    read = StreamPartition.next_batch
    for after in (3, 9):
        left = [after]

        def aborting(partition: StreamPartition, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise AbortExecution
            return read(partition)

        with monkeypatch.context() as patch:
            patch.setattr(StreamPartition, "next_batch", aborting)
            drain(stores, batch_bytes=20_000)
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_parked_events_are_driven_again_by_themselves(stores: Stores) -> None:
    """Events of a subject that nobody has wait; once a customer has it, they are rated, in its own group."""
    records = world("500")
    late = [record for record in records if "customer-5" in msgspec.json.encode(record).decode()]
    write_records(stores, [record for record in records if record not in late])
    stream = usage(4, 800)
    append(stores, stream)
    with engine_process(stores) as process:
        expected = sum(event["subject"].startswith("s5") for event in stream)
        wait_for(
            lambda: (
                query(stores, "select count(*) from parked_events where reason = 'unknown_subject'")[0][0] == expected
            ),
            "the events to be parked",
        )
        write_records(stores, late)
        wait_for(lambda: query(stores, "select count(*) from parked_events")[0][0] == 0, "the events to leave")
        wait_for(
            lambda: query(stores, "select coalesce(sum(events), 0) from usage_periods")[0][0] == 800,
            "all to be rated",
        )
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    check_ledger(stores, stream, CUSTOMERS)


def test_broken_events_are_kept_as_dead_letters_and_stop_nothing(stores: Stores) -> None:
    """Each refused line is in the ledger with its reason and path; the others are rated."""
    write_records(stores, world("500"))
    stream = usage(5, 200)
    append(stores, stream)
    with redis.Redis.from_url(stores.redis_url) as client:
        client.xadd("tollway:events:000", {"e": b'{"specversion": "1.0"}\nnot json'})
        client.xadd(
            "tollway:events:001",
            {
                "e": msgspec.json.encode(stream[0] | {"id": "ahead", "time": (NOW + timedelta(days=9)).isoformat()})
                + b"\n"
                + msgspec.json.encode(
                    stream[0] | {"id": "negative", "type": "store", "data": {"gigabytes": -1}, "time": NOW.isoformat()}
                )
            },
        )
        client.xadd("tollway:events:002", {"e": b""})
        stored = next(event for event in stream if event["type"] == "store")
        append(stores, [stored | {"data": {"gigabytes": 99_999}}])
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)
    letters = dict(query(stores, "select reason, path from dead_letters order by reason"))
    assert letters == {
        "duplicate_mismatch": "$",
        "invalid_envelope": letters["invalid_envelope"],
        "malformed": "$",
        "time_in_future": "$.time",
        "value_negative": "$.data.gigabytes",
    }


def test_a_file_may_begin_with_a_byte_order_mark(stores: Stores, tmp_path: Path) -> None:
    """No event of it is lost, read at once or after an end in its middle."""
    write_records(stores, world("500"))
    stream = usage(6, 200)
    path = tmp_path / "usage.jsonl"
    path.write_bytes(BYTE_ORDER_MARK + b"\n".join(map(line, stream)))
    settings = msgspec.structs.replace(stores.settings, epoch_ms=200, batch_bytes=2000)
    run_engine(settings, stores.redis_url, stores.postgres_dsn, files=[path], drain=True)
    check_ledger(stores, stream, CUSTOMERS)
    assert query(stores, "select count(*) from dead_letters") == [(0,)]


def test_time_alone_moves_a_balance(stores: Stores) -> None:
    """A grant that expires shuts the gate, and one that becomes effective opens it, with no event arriving."""
    write_records(stores, world())
    with engine_process(stores) as process:
        wait_for(lambda: visible(stores, "c1").get("access") == "blocked", "the first balance")
        soon = datetime.now(UTC) + timedelta(seconds=3)
        short = Grant(
            id="short",
            customer_id="customer-1",
            amount=Decimal(10),
            currency="USD",
            effective_at=MONTH,
            created_at=MONTH,
            expires_at=soon,
        )
        later = Grant(
            id="next",
            customer_id="customer-1",
            amount=Decimal(7),
            currency="USD",
            effective_at=soon + timedelta(seconds=2),
            created_at=MONTH,
        )
        write_records(stores, [short, later])
        wait_for(lambda: visible(stores, "c1")["access"] == "allowed", "the grant")
        assert visible(stores, "c1")["pending"] == "7"
        wait_for(lambda: visible(stores, "c1")["access"] == "blocked", "the expiry")
        assert datetime.now(UTC) >= soon
        wait_for(lambda: visible(stores, "c1")["access"] == "allowed", "the next grant")
        assert visible(stores, "c1")["live"] == "7"
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    row = query(stores, "select funded, expired, settled from balances where customer_id = 'customer-1'")
    assert row == [(17, 10, 7)]
    kinds = query(
        stores,
        "select kind from signals where customer_key = 'c1' and kind like 'access%%' order by sequence",
    )
    assert kinds == [("access_blocked",), ("access_allowed",), ("access_blocked",), ("access_allowed",)]


def test_a_top_up_repays_the_overage_and_opens_the_gate(stores: Stores) -> None:
    """Usage under way takes the balance below zero; the next grant pays that first."""
    write_records(stores, world("1"))
    stream = usage(6, 400)
    append(stores, stream)
    drain(stores)
    before = visible(stores, "c2")
    assert before["access"] == "blocked"
    owed = Decimal(before["overage"])
    assert owed > 0
    grant = Grant(
        id="top-up",
        customer_id="customer-2",
        amount=owed + 5,
        currency="USD",
        effective_at=datetime.now(UTC),
        created_at=datetime.now(UTC),
    )
    with engine_process(stores) as process:
        write_records(stores, [grant])
        wait_for(lambda: visible(stores, "c2")["access"] == "allowed", "the grant")
        # Windows that have left the state come back first: that waits for a snapshot that holds them.
        wait_for(lambda: visible(stores, "c2")["overage"] == "0", "the overage to be repaid")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert visible(stores, "c2")["live"] == "5"
    check_ledger(stores, stream, CUSTOMERS)


def test_what_was_set_up_holds_for_the_events_sent_after(stores: Stores) -> None:
    """A subscription made while the flow runs is seen by an event sent the moment it was written: nothing is parked."""
    write_records(stores, world("5"))
    with engine_process(stores) as process:
        wait_for(lambda: visible(stores, "c0"), "the first balance")
        stream = []
        for number in range(20, 40):
            start = MONTH
            records: list[Any] = [
                Customer(
                    id=f"customer-{number}",
                    key=f"c{number}",
                    name="",
                    currency="USD",
                    subjects=(f"s{number}a",),
                ),
                Subscription(
                    id=f"subscription-{number}",
                    customer_id=f"customer-{number}",
                    plan_key="pro",
                    plan_version=1,
                    active_from=start,
                    anchor=start,
                    recorded_at=start,
                ),
            ]
            write_records(stores, records)
            event = {
                "specversion": "1.0",
                "id": f"n{number}",
                "source": "test",
                "type": "call",
                "subject": f"s{number}a",
                "time": NOW.isoformat(),
            }
            append(stores, [event])
            stream.append(event)
        wait_for(
            lambda: query(stores, "select coalesce(sum(events), 0) from usage_periods")[0][0] == len(stream),
            "all events",
        )
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert query(stores, "select count(*) from parked_events") == [(0,)]
