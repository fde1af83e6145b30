"""A log, a control log and a recovery store that hold what no check lets in any more are survived at each start."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from rating.catalog import Grant, PlanVersion, Subscription
from sinks.event_log import EventLog
from tests.conftest import Stores
from tests.engine_runs import append, drain, query, write_records
from tests.fuzz.test_events import ended
from tests.kafka.runs import world
from tests.world import MONTH, NOW

LENIENT = 100_000
"""As in an installation: a failure at one customer ends nothing."""

DEEP = b'{"a":' * 980 + b"1" + b"}" * 980
LINES = [
    b'{"specversion":"x - at `$.foo`","id":"a","source":"s","type":"t","subject":"x"}',
    b'{"specversion":"1.0","id":"b","source":"s","type":"call","subject":"nobody","time":"0001-01-01T00:00:00+14:00"}',
    b'{"specversion":"1.0","id":"c","source":"s","type":"call","subject":"s0a","time":"9999-12-31T23:59:59-14:00"}',
    b"[" * 100_000,
    b'{"specversion":"1.0","id":"d","source":"s","type":"prompt","subject":"s0a","data":'
    + b'{"a":' * 980
    + b"1"
    + b"}" * 981,
    b'{"specversion":"1.0","id":"e","source":"s","type":"prompt","subject":"s0a","data":{"tokens":1e999999999}}',
    b"\x0c",
    b"\xff\x00",
    b"null",
]


def _poisoned() -> list[Any]:
    """Customers 0 to 2 are well; the plan of 3 is not there, the periods of 4 lead beyond the years, 5 begins 1970."""
    records = world("500", customers=6)
    (pro,) = (record for record in records if isinstance(record, PlanVersion))
    found: list[Any] = [replace(pro, key="long", cadence="P9000Y"), replace(pro, key="seconds", cadence="PT1S")]
    plans = {"customer-3": "gone", "customer-4": "long", "customer-5": "seconds"}
    for record in records:
        if isinstance(record, Subscription) and record.customer_id in plans:
            record = replace(record, plan_key=plans[record.customer_id])
        found.append(record)
    return found


def _calls(name: str, customers: int) -> list[dict[str, Any]]:
    return [
        {"specversion": "1.0", "id": f"{name}{number}", "source": "s", "type": "call", "data": {}}
        | {"subject": f"s{number}a", "time": (NOW - timedelta(seconds=5)).isoformat()}
        for number in range(customers)
    ]


def test_what_was_let_in_once_ends_nothing_at_any_start(stores: Stores) -> None:
    write_records(stores, _poisoned())
    log = EventLog(stores.redis_url, stores.settings.partitions)
    for start in range(3):
        log.append(LINES)
        log.append([b"\x0b"])
        append(stores, _calls(f"{start}-", 6))
        before = ended().total()
        drain(stores, lane_check_events=LENIENT)
        # What customer 4 used is held, since its data can't be read.
        assert ended().total() - before == len(LINES) + 1 + 5
        rated = dict(query(stores, "select customer_id, sum(events) from usage_periods group by customer_id"))
        assert all(rated[f"customer-{number}"] == start + 1 for number in range(3)), rated
    log.close()
    assert query(stores, "select count(*) from dead_letters where reason = 'failed'") == [(0,)]
    waiting = "select count(*) from parked_events where customer_id = 'customer-3' and reason = 'no_feature'"
    assert query(stores, waiting) == [(3,)]
    late = Grant("late", "customer-4", Decimal(1), "USD", MONTH, MONTH)
    fixed = [
        record
        for record in world(customers=6)
        if isinstance(record, Subscription) and record.customer_id == "customer-4"
    ]
    write_records(stores, [*fixed, late])
    drain(stores, lane_check_events=LENIENT)
    rated = dict(query(stores, "select customer_id, sum(events) from usage_periods group by customer_id"))
    assert rated["customer-4"] == 3, rated
