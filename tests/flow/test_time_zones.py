"""Servers west and east of UTC: whatever is stored can be read, and comes out the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from litestar.testing import TestClient

from sinks.postgres.connecting import connect
from tests.conftest import Stores
from tests.docs.pages import ROOT
from tests.engine_runs import append, check_ledger, drain, query, write_records
from tests.world import MONTH, NOW, catalog_records, customer_records, events
from tollway.api.server.app import create_app
from tollway.api.server.stores import ServerStores

CUSTOMERS = 3
EDGES = {
    "0001-01-01T00:00:00Z": "invalid_envelope",
    "1969-12-31T23:59:59.999999Z": "invalid_envelope",
    "9000-01-01T00:00:00Z": "invalid_envelope",
    "9999-12-31T23:59:59Z": "invalid_envelope",
    "8999-12-31T23:59:59Z": "time_in_future",
}
"""Times of events, and why they are refused."""


@pytest.fixture(params=["America/Los_Angeles", "Pacific/Kiritimati"])
def away(stores: Stores, request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Stores whose database has a time zone of its own, as its server may have."""
    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"alter database {name} set timezone to '{request.param}'".encode())
        yield stores
        connection.execute(f"alter database {name} reset timezone".encode())


def test_each_connection_is_in_utc(away: Stores) -> None:
    """In a transaction or not, and after one was taken back."""
    for autocommit in (True, False):
        with connect(away.postgres_dsn, autocommit=autocommit, application_name="here") as connection:
            assert connection.autocommit is autocommit
            for _ in range(2):
                found = connection.execute("select '0001-01-01T00:00:00Z'::timestamptz, current_setting('TimeZone')")
                assert found.fetchone() == (datetime(1, 1, 1, tzinfo=UTC), "UTC")
                connection.rollback()


def test_usage_is_rated_and_told_the_same_wherever_the_server_is(away: Stores) -> None:
    """Through the engine, twice, and out of the API; with events at the edges of time, known and unknown."""
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (), start=MONTH)
    write_records(away, records)
    stream = list(events(random.Random(1), 300, CUSTOMERS, MONTH, NOW - MONTH))
    at_edges = [
        stream[0] | {"id": f"{owner}-{time}", "time": time, "subject": subject}
        for owner, subject in (("known", stream[0]["subject"]), ("unknown", "nobody"))
        for time in EDGES
    ]
    append(away, stream + at_edges)
    drain(away)
    append(away, stream)
    drain(away)
    check_ledger(away, stream, CUSTOMERS)
    refused = query(away, "select raw, reason from dead_letters")
    found = {time: reason for raw, reason in refused for time in EDGES if b"known-" + time.encode() in raw}
    assert found == EDGES
    with TestClient(create_app(ServerStores(away.redis_url, away.postgres_dsn, partitions=2))) as client:
        for path in ("dead-letters", "parked-events", "unpriced"):
            assert client.get(f"/api/v3/tollway/{path}").status_code == 200


def test_an_event_that_was_parked_at_an_edge_of_time_does_not_end_the_dataflow(away: Stores) -> None:
    """One of the year 1, as an earlier version kept it: the dataflow starts, looks at it, and goes on."""
    write_records(away, catalog_records() + customer_records(0, (), start=MONTH))
    stream = list(events(random.Random(2), 50, 1, MONTH, NOW - MONTH))
    append(away, stream)
    drain(away)
    columns = query(away, "select column_name from information_schema.columns where table_name = 'parked_events'")
    values: dict[str, Any] = {
        "source": "test",
        "id": "old",
        "reason": "unknown_subject",
        "message": "…",
        "subject": stream[0]["subject"],
        "event_time": "0001-01-01T00:00:00Z",
        "received_at": NOW,
        "control_version": 0,
        "raw": b'{"specversion":"1.0","id":"old","source":"test","type":"call","subject":"nobody",'
        b'"time":"0001-01-01T00:00:00Z"}',
    }
    given = [name for (name,) in columns if name in values]
    with psycopg.connect(away.postgres_dsn) as connection:
        connection.execute(
            f"insert into parked_events ({', '.join(given)}) values ({', '.join(['%s'] * len(given))})".encode(),
            [values[name] for name in given],
        )
    append(away, stream)
    drain(away)
    check_ledger(away, stream, 1)


def test_there_is_one_way_to_a_connection() -> None:
    """None is opened past it, in whose time zone what is read would depend on the server."""
    past = [
        path.relative_to(ROOT)
        for room in ("config", "rating", "sinks", "dataflows", "tollway")
        for path in (ROOT / room).rglob("*.py")
        if "psycopg.connect(" in path.read_text() and path.name != "connecting.py"
    ]
    assert past == []
