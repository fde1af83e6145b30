"""What the processes of the dataflow tell is what the ledger has: in a cluster, and after one of them was killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dataflows.sources.streams import StreamSource
from rating.refusals import ParkCode
from sinks import metrics
from sinks.postgres.totals import read_totals
from tests.api.service import NO_TLS
from tests.cluster.test_cluster import children_of
from tests.conftest import Stores
from tests.engine_runs import append, drain, engine_log, engine_process, query, wait_for, write_records
from tests.ports import free_port, free_ports
from tests.waiting import PATIENCE_SECONDS
from tests.world import MONTH, NOW, catalog_records, customer_records, events

CUSTOMERS = 30

Page = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and labels."""


def a_stream(stores: Stores, seed: int, count: int) -> list[dict[str, Any]]:
    """Events of customers who have credits for some of them, and who are in the control log."""
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(number * 30 + 5),), start=MONTH)
    write_records(stores, records)
    return list(events(random.Random(seed), count, CUSTOMERS, MONTH, NOW - MONTH))


def page(port: int, host: str = "127.0.0.1") -> Page:
    """What a process tells; nothing while it does not answer."""
    try:
        text = httpx.get(f"http://{host}:{port}/metrics", trust_env=False, verify=NO_TLS).text
    except httpx.TransportError:
        return {}
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def by(found: Page, name: str, label: str) -> dict[str, float]:
    """The values of a metric by a label, added up over the others."""
    values: Counter[str] = Counter()
    for (sample, labels), value in found.items():
        if sample == name:
            values[dict(labels)[label]] += value  # type: ignore[assignment]
    return dict(values)


def test_a_cluster_tells_what_the_ledger_has(stores: Stores) -> None:
    """Counters add up over the processes; what is read from the ledger is told once, and is right after a kill."""
    stream = a_stream(stores, 1, 4000)
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=240)
    stream[-1]["time"] = ahead.isoformat()
    append(stores, [*stream, *stream[:300]])
    port = free_ports(2)
    with engine_process(stores, "--processes", "2", TOLLWAY_METRICS_PORT=str(port)) as supervisor:

        def ended() -> float:
            return sum(sum(by(page(port + place), "tollway_events_total", "end").values()) for place in range(2))

        wait_for(lambda: ended() == 4300, "all events to be read")
        wait_for(lambda: query(stores, "select sum(events) from charges") == [(4000,)], "the ledger")
        wait_for(lambda: by(page(port), "tollway_customers", "access") == in_ledger(stores), "the totals")
        pages = [page(port), page(port + 1)]
        check_counters(stores, pages)
        check_places(pages, ahead)
        check_totals(stores, pages)

        os.kill(children_of(supervisor.pid)[1], signal.SIGKILL)
        wait_for(lambda: not page(port), "all to end")
        wait_for(lambda: by(page(port), "tollway_customers", "access"), "the totals after all began again")
        wait_for(lambda: by(page(port), "tollway_customers", "access") == in_ledger(stores), "the same totals")
        wait_for(lambda: page(port + 1), "the other process")
        pages = [page(port), page(port + 1)]
        check_totals(stores, pages)
        again = [sum(by(found, "tollway_signals_total", "kind").values()) for found in pages]
        assert again == [0, 0], "nothing changed, so nothing is signalled again"
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_SECONDS) == 0, engine_log(stores)


def in_ledger(stores: Stores) -> dict[str, float]:
    """Customers by access."""
    return dict(query(stores, "select access, count(*) from balances group by access"))


def check_counters(stores: Stores, pages: list[Page]) -> None:
    """Ends of events, signals and rows, over all processes."""
    ends = [by(found, "tollway_events_total", "end") for found in pages]
    assert all(found["rated"] > 0 for found in ends), "both take part"
    assert sum(found["rated"] for found in ends) == 4000
    assert sum(found["duplicate"] for found in ends) == 300
    told: Counter[str] = Counter()
    for found in pages:
        told.update(by(found, "tollway_signals_total", "kind"))
    signals = dict(query(stores, "select kind, count(*) from signals group by kind"))
    assert signals["access_blocked"] > 0
    assert {kind: count for kind, count in told.items() if count} == signals
    observed = sum(found["tollway_ingest_to_signal_seconds_count", ()] for found in pages)
    assert 0 < observed <= signals["access_blocked"]
    rows = sum(by(found, "tollway_ledger_rows_total", "table")["balances"] for found in pages)
    assert rows >= CUSTOMERS


def check_places(pages: list[Page], ahead: datetime) -> None:
    """Which process this is; each partition and key group is told by one process; how far it has seen."""
    infos = [dict(labels) for found in pages for (name, labels) in found if name == "tollway_engine_info"]
    assert [(info["process_id"], info["processes"]) for info in infos] == [("0", "2"), ("1", "2")]
    lags = [by(found, "tollway_source_lag_seconds", "partition") for found in pages]
    assert sorted(partition for found in lags for partition in found) == ["000", "001", "002", "003"]
    assert all(0 <= lag < 5 for found in lags for lag in found.values()), lags
    marks = [by(found, "tollway_watermark_timestamp_seconds", "key_group") for found in pages]
    assert not marks[0].keys() & marks[1].keys()
    assert max(mark for found in marks for mark in found.values() if mark > 0) == ahead.timestamp()
    assert all(found["tollway_epoch_seconds_count", ()] > 1 for found in pages)


def check_totals(stores: Stores, pages: list[Page]) -> None:
    """What the ledger has, from the first process alone."""
    first, second = pages
    assert by(second, "tollway_customers", "access") == {}
    columns = ("charged", "consumed", "uncovered", "live")
    ((*totals,),) = query(stores, f"select {', '.join(f'sum({name})' for name in columns)} from balances")
    assert totals[0] > 0
    for name, total in zip(columns, totals, strict=True):
        assert by(first, f"tollway_{name}_amount", "currency") == {"USD": float(total)}
        assert by(second, f"tollway_{name}_amount", "currency") == {}
    assert first["tollway_unbalanced_customers", ()] == 0
    assert time.time() - first["tollway_ledger_read_timestamp_seconds", ()] < 10


def test_money_that_does_not_add_up_is_told(stores: Stores) -> None:
    """One customer whose charges are a thousandth off; parked events by reason; a currency that went away is 0."""
    stream = a_stream(stores, 2, 300)
    append(stores, [*stream, *({**event, "subject": "nobody"} for event in stream[:7])])
    drain(stores)
    currencies: set[str] = set()
    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        read_totals(connection, currencies)
        assert metrics.unbalanced_customers._value.get() == 0
        assert metrics.parked_events.labels(ParkCode.UNKNOWN_SUBJECT)._value.get() == 7
        connection.execute("update balances set charged = charged + 0.001 where customer_id = 'customer-3'")
        read_totals(connection, currencies)
        assert metrics.unbalanced_customers._value.get() == 1
        connection.execute("update balances set currency = 'EUR'")
        read_totals(connection, currencies)
        assert metrics.charged_amount.labels("USD")._value.get() == 0
        assert metrics.charged_amount.labels("EUR")._value.get() > 0


@pytest.mark.timed
def test_the_lag_grows_until_all_is_read(stores: Stores) -> None:
    """It is the age of the newest entry that was read, and next to nothing once there is nothing more to read."""
    append(stores, a_stream(stores, 3, 10))
    source = StreamSource(stores.redis_url, 1_000_000, 60, Event())
    parts = {name: source.build_part("events", name, None) for name in source.list_parts()}
    wait_for(lambda: all(lag_seconds(name) >= 0.3 for name in parts), "the lag to grow while nothing is read")
    for name, part in parts.items():
        while part.next_batch():
            assert lag_seconds(name) >= 0.3
        assert lag_seconds(name) < 0.1
    offset = parts["000"].snapshot()
    parts["000"].close()
    parts["000"] = source.build_part("events", "000", offset)
    assert lag_seconds("000") >= 0.3, "as long ago as what it resumes from was received"
    for part in parts.values():
        part.close()
    assert not [series for metric in metrics.source_lag_seconds.collect() for series in metric.samples]


def lag_seconds(partition: str) -> float:
    """How far a partition of the event log is behind, as a scrape would find it now."""
    (found,) = (
        series.value
        for metric in metrics.source_lag_seconds.collect()
        for series in metric.samples
        if series.labels == {"source": "events", "partition": partition}
    )
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_metrics_are_served_where_the_settings_say(stores: Stores, host: str) -> None:
    """At that address, and at no other."""
    port = free_port()
    settings = {} if host == "127.0.0.1" else {"TOLLWAY_METRICS_HOST": host}
    with engine_process(stores, TOLLWAY_METRICS_PORT=str(port), **settings) as process:
        wait_for(lambda: page(port, host), "the metrics")
        assert page(port, "127.0.0.3") == {}
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    assert f"Metrics: http://{host}:{port}/metrics" in engine_log(stores)
