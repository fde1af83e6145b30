"""The whole engine killed with SIGKILL mid-stream, several times; what comes back goes on exactly."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
import redis

from tests.conftest import Stores
from tests.engine_runs import (
    append,
    check_ledger,
    drain,
    engine_log,
    engine_process,
    query,
    visible,
    wait_for,
    write_records,
)
from tests.waiting import PATIENCE_SECONDS, let_pass
from tests.world import MONTH, NOW, catalog_records, customer_records, events

CUSTOMERS = 12
COUNT = 12_000


@pytest.mark.parametrize("seed", [11, 12])
def test_a_killed_engine_leaves_the_oracles_ledger(stores: Stores, seed: int) -> None:
    """Three kills at random moments while events keep coming, with two grants to burn and gates to shut."""
    chance = random.Random(seed)
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(300), Decimal(chance.randrange(1, 5000))), start=MONTH)
    write_records(stores, records)
    stream = list(events(chance, COUNT, CUSTOMERS, MONTH, NOW - MONTH))
    sent = stream + chance.sample(stream, COUNT // 50)
    for _ in range(len(sent) // 100):
        first = chance.randrange(len(sent) - 40)
        second = first + chance.randrange(40)
        sent[first], sent[second] = sent[second], sent[first]
    at = 0
    for life in range(3):
        with engine_process(stores) as process:
            wait_for(lambda: visible(stores, "c0") or process.poll() is not None, "the engine")
            until = len(sent) * (life + 1) // 4
            while at < until:
                append(stores, sent[at : at + 150])
                at += 150
                let_pass(0.005, "a stream, not a flood")
            let_pass(chance.random() * 0.5, "a kill at any moment is right")
            assert process.poll() is None, engine_log(stores)
            process.kill()
            process.wait()
    append(stores, sent[at:])
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)
    assert query(stores, "select count(*) from parked_events")[0][0] == 0


def test_sigterm_stops_cleanly_and_loses_nothing(stores: Stores) -> None:
    """Exit code 0, and the next run has nothing to repeat."""
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(100),), start=MONTH)
    write_records(stores, records)
    stream = list(events(random.Random(5), 2000, CUSTOMERS, MONTH, NOW - MONTH))
    with engine_process(stores) as process:
        wait_for(lambda: visible(stores, "c0"), "the engine")
        append(stores, stream)
        wait_for(lambda: query(stores, "select count(*) from charges")[0][0], "the first of it to be rated")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_balances_come_back_when_redis_is_lost(stores: Stores) -> None:
    """An empty Redis is filled again at the next start; who is blocked is signalled anew, for those who lost it too."""
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(100),), start=MONTH)
    write_records(stores, records)
    stream = list(events(random.Random(6), 1000, CUSTOMERS, MONTH, NOW - MONTH))
    append(stores, stream)
    drain(stores)
    before = {number: visible(stores, f"c{number}") for number in range(CUSTOMERS)}
    with redis.Redis.from_url(stores.redis_url) as client:
        client.flushall()
    drain(stores)
    for number, balance in before.items():
        found = visible(stores, f"c{number}")
        assert {k: found[k] for k in ("live", "access", "revision")} == {
            k: balance[k] for k in ("live", "access", "revision")
        }
    blocked = sum(balance["access"] == "blocked" for balance in before.values())
    kinds = query(stores, "select kind, count(*) from signals where kind like 'access%%' group by kind")
    assert blocked > 0
    assert kinds == [("access_blocked", 2 * blocked)]
