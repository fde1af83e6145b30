"""Running the engine in tests: in this process to the end of the log, or as a process of its own that may be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import psycopg
import redis

from config.settings import Settings
from dataflows.engine import run_engine
from rating.catalog import Customer, Record, encode_record
from sinks.event_log import EventLog
from sinks.redis.keys import CONTROL_HEAD, balance_key
from tests import oracle
from tests.conftest import Stores
from tests.waiting import wait_for as wait_for
from tests.world import FEATURES, MONTH, PRICES, customer_by_subject, line


def write_records(stores: Stores, records: list[Record]) -> int:
    """Put records into the control log. Returns the id of the last."""
    head = 0
    with psycopg.connect(stores.postgres_dsn) as connection:
        for record in records:
            body = encode_record(record).decode()
            found = connection.execute(
                "insert into control_log (kind, body) values (%s, %s) returning id", (type(record).__name__, body)
            ).fetchone()
            assert found is not None
            head = int(found[0])
            if isinstance(record, Customer):
                connection.execute(
                    "insert into customers (id, key, body) values (%s, %s, %s) on conflict do nothing",
                    (record.id, record.key, body),
                )
    with redis.Redis.from_url(stores.redis_url) as client:
        client.set(CONTROL_HEAD, head)
    return head


def append(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Put events into the log."""
    log = EventLog(stores.redis_url, stores.settings.partitions)
    for start in range(0, len(stream), 1000):
        log.append([line(event) for event in stream[start : start + 1000]])
    log.close()


def drain(stores: Stores, **changes: Any) -> None:
    """Run the engine in this process to the end of the log."""
    settings: Settings = msgspec.structs.replace(stores.settings, epoch_ms=200, **changes)
    run_engine(settings, stores.redis_url, stores.postgres_dsn, drain=True)


@contextmanager
def engine_process(stores: Stores, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The engine as a process; killed at the end if it still runs. What it wrote is printed where a test fails."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables |= {
        "TOLLWAY_HOME": str(stores.settings.home),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
        "TOLLWAY_EPOCH_MS": "200",
        **environment,
    }
    with (stores.settings.home / "engine.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tollway", "run", *arguments], stdout=log, stderr=log, env=variables
        )
    try:
        yield process
    except BaseException:
        sys.stderr.write(engine_log(stores))
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def engine_log(stores: Stores) -> str:
    """What engine processes wrote, for a failing test."""
    return (stores.settings.home / "engine.log").read_text()[-3000:]


def query(stores: Stores, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the ledger."""
    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        return connection.execute(statement.encode(), values).fetchall()


def visible(stores: Stores, customer_key: str) -> dict[str, str]:
    """The balance that gateways see."""
    with redis.Redis.from_url(stores.redis_url, decode_responses=True) as client:
        found: Any = client.hgetall(balance_key(customer_key))
        return dict(found)


def check_ledger(stores: Stores, stream: list[dict[str, Any]], customers: int) -> None:
    """Ledger and Redis hold what the oracle says, to the last digit, and conserve. Months are from `MONTH` on."""
    bill = oracle.rate(stream, customer_by_subject(customers), FEATURES, MONTH.day)
    periods = query(stores, "select customer_id, feature_key, period_start, usage, amount from usage_periods")
    assert {row[:3]: Fraction(row[3]) for row in periods} == dict(bill.usage)
    assert {row[:3]: Fraction(row[4]) for row in periods} == bill.amounts(PRICES)
    charged = bill.charged(PRICES)
    balances = query(
        stores,
        "select customer_id, charged, consumed, uncovered, funded, settled, pending, expired, voided, overage, access,"
        " live, customer_key, revision from balances",
    )
    assert len(balances) == customers
    for (
        customer,
        total,
        consumed,
        uncovered,
        funded,
        settled,
        pending,
        expired,
        voided,
        overage,
        *shown,
    ) in balances:
        assert Fraction(total) == charged.get(customer, 0), customer
        assert total == consumed + uncovered
        assert funded == settled + pending + consumed + expired + voided
        access, live, key, revision = shown
        assert live == settled - overage
        seen = visible(stores, key)
        found = (seen["access"], Decimal(seen["live"]), int(seen["revision"]))
        assert found == (access, live, revision), f"{key}: {found} in Redis, {(access, live, revision)} in the ledger"
    assert (
        query(
            stores,
            "select customer_id from charges group by customer_id having sum(credits) <>"
            " (select consumed from balances b where b.customer_id = charges.customer_id)",
        )
        == []
    )
    kinds: dict[str, list[str]] = {}
    for customer, kind in query(
        stores,
        "select customer_key, kind from signals where kind like 'access_%%' order by customer_key, sequence",
    ):
        kinds.setdefault(customer, []).append(kind)
    for row in balances:
        turns = kinds.get(row[12], [])
        assert all(first != second for first, second in pairwise(turns)), turns
        assert (turns[-1] if turns else "access_allowed") == f"access_{row[10]}"
