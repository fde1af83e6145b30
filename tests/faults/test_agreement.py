"""`tollway doctor` compares what gates see with the ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import redis

from sinks.postgres.generations import read_state
from sinks.redis.keys import balance_key
from tests.conftest import Stores
from tests.engine_runs import drain, query, write_records
from tests.world import MONTH, catalog_records, customer_records
from tollway.commands import agreement
from tollway.commands.agreement import Agreement, compare

CUSTOMERS = 40


@pytest.fixture
def told(stores: Stores) -> Iterator[redis.Redis]:
    """Customers who were told, and the Redis that has them."""
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(10),), start=MONTH)
    write_records(stores, records)
    drain(stores)
    with redis.Redis.from_url(stores.redis_url, protocol=3) as client:
        yield client


def compared(stores: Stores, client: redis.Redis, **how: Any) -> Agreement:
    """What is found."""
    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        return compare(connection, client, read_state(connection).generation, **how)


def test_all_agree_after_a_run(stores: Stores, told: redis.Redis) -> None:
    """Each customer by balance, access, revision and generation, which is told as it goes on."""
    seen: list[tuple[int, int]] = []
    found = compared(stores, told, everybody=True, progress=lambda done, of: seen.append((done, of)))
    assert found == Agreement(CUSTOMERS, CUSTOMERS, [], [])
    assert seen == [(CUSTOMERS, CUSTOMERS)]


def test_each_way_to_differ_is_named(stores: Stores, told: redis.Redis) -> None:
    """By customer, with what either says; a balance that is not there at all too, and one of nobody."""
    told.hset(balance_key("c1"), mapping={"access": "blocked", "live": "0"})
    told.hset(balance_key("c2"), "generation", "5")
    told.hset(balance_key("c3"), "revision", "900")
    told.delete(balance_key("c4"))
    told.hset(balance_key("ghost"), mapping={"customer_id": "g", "access": "allowed", "revision": "1", "reason": ""})
    told.hset(
        balance_key("shut"),
        mapping={"customer_id": "s", "access": "blocked", "revision": "0", "reason": "unknown_customer"},
    )
    found = compared(stores, told)
    lines = {line.split(":")[0].split(" ")[0]: line for line in found.differing}
    assert sorted(lines) == ["c1", "c2", "c3", "c4"]
    assert "access blocked in Redis, allowed in the ledger" in lines["c1"]
    assert "generation 5 in Redis" in lines["c2"]
    assert "revision 900 in Redis" in lines["c3"]
    assert lines["c4"] == "c4 is not in Redis"
    assert found.unknown == ["ghost"]


def test_a_ledger_of_many_is_looked_at_in_part(
    stores: Stores, told: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it takes no longer the more customers there are."""
    monkeypatch.setattr(agreement, "SAMPLE", 4)
    parts = [compared(stores, told).looked_at for _ in range(5)]
    assert max(parts) < CUSTOMERS
    assert compared(stores, told, everybody=True).looked_at == CUSTOMERS


def test_who_is_being_written_does_not_differ(stores: Stores, told: redis.Redis) -> None:
    """Redis and the ledger are not written at the same instant: who moves on is looked at until it agrees."""
    told.hset(balance_key("c1"), "revision", "1")
    (revision,) = query(stores, "select revision from balances where customer_key = 'c1'")[0]
    right = threading.Timer(agreement.PAUSE_SECONDS, lambda: told.hset(balance_key("c1"), "revision", str(revision)))
    right.start()
    assert compared(stores, told).differing == []
    right.join()
