"""Events that wait are driven again on real servers: as they were, and only where they can be rated."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import msgspec
import psycopg
import pytest
import redis

import dataflows.redrive
import rating.dedup
from dataflows.catalog_view import CatalogView
from dataflows.recovery.rebuild import rebuild
from dataflows.redrive import Redrive
from dataflows.sources.streams import StreamSource
from rating.catalog import FeatureSet, MeterSet, PlanVersion, Record, SettlementMode, VersionMove
from rating.meters import Aggregation, Feature, Meter
from rating.outcome import Outcome
from rating.refusals import ParkCode, Parked
from rating.time_rules import TimeRules
from sinks.event_log import EventLog
from sinks.postgres.ledger import Ledger, rows_of
from tests.conftest import Stores
from tests.engine_runs import append, drain, query, wait_for, write_records
from tests.simulation.settling import card, customer, plan, subscription
from tests.world import LAST_MONTH, MONTH, NOW, line

HOUR = timedelta(hours=1)
INVOICE = SettlementMode.CREDIT_THEN_INVOICE

Entry = tuple[list[dict[str, Any]], int | None, str]
"""Events of an entry of the log, when they were first received, and the one meter."""


class Driving:
    """A redrive with a flow that does nothing but ask it."""

    def __init__(self, stores: Stores, memory_percent: int) -> None:
        self.stores = stores
        self.view = CatalogView(stores.postgres_dsn)
        log = EventLog(stores.redis_url, stores.settings.partitions)
        self.redrive = Redrive(stores.postgres_dsn, log, self.view, TimeRules(), memory_percent)
        self.longest = 0.0

    def once(self) -> None:
        self.view.catch_up()
        started = time.perf_counter()
        self.redrive.drive()
        self.longest = max(self.longest, time.perf_counter() - started)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Go on until a condition holds."""

        def holds() -> bool:
            self.once()
            return condition()

        wait_for(holds, what)

    def until_idle(self) -> None:
        """Until all was looked at that the catalog of now concerns."""
        self.until(self.redrive.is_idle, "the redrive to be done")


@contextmanager
def driving(stores: Stores, memory_percent: int = 100) -> Iterator[Driving]:
    """A redrive, begun."""
    found = Driving(stores, memory_percent)
    found.redrive.start()
    try:
        yield found
    finally:
        found.redrive.close()
        found.view.close()


def park(stores: Stores, *parked: Parked, version: int = 0) -> None:
    """What the flow writes when it parks events."""
    outcome = Outcome(version)
    outcome.parked += parked
    ledger = Ledger(stores.postgres_dsn)
    ledger.write(rows_of(outcome, 0, 1))
    ledger.close()


def waiting(
    name: str,
    subject: str,
    code: ParkCode = ParkCode.UNKNOWN_SUBJECT,
    customer_id: str | None = None,
    type_: str = "calls",
    at: datetime = MONTH + HOUR,
    received: datetime = MONTH + HOUR,
    meter: str = "",
    **data: Any,
) -> Parked:
    """An event that waits."""
    raw = line({"specversion": "1.0", "id": name, "source": "s", "type": type_, "subject": subject, "data": data})
    return Parked(code, "why", "s", name, subject, customer_id, at, raw, received, meter, type=type_)


def log_entries(stores: Stores) -> list[Entry]:
    """All entries of the log."""
    found: list[Entry] = []
    with redis.Redis.from_url(stores.redis_url) as client:
        for part in range(stores.settings.partitions):
            entries: Any = client.xrange(f"tollway:events:{part:03}")
            for _, fields in entries:
                received = fields.get(b"r")
                events = [msgspec.json.decode(found) for found in fields[b"e"].split(b"\n")]
                found.append((events, None if received is None else int(received), fields.get(b"m", b"").decode()))
    return found


def names(stores: Stores) -> list[str]:
    """The ids of all events in the log."""
    return sorted(event["id"] for events, _, _ in log_entries(stores) for event in events)


def reasons(stores: Stores) -> dict[str, str]:
    """By id, what events wait for."""
    return dict(query(stores, "select id, reason from parked_events"))


def microseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


@pytest.fixture
def priced(stores: Stores) -> Stores:
    """With a feature `calls` of events that have a `kind`, of which the plan prices `paid`."""
    meter = Meter("calls", "calls", Aggregation.SUM, "$.n", {"kind": "$.kind"})
    feature = Feature("calls", "", "calls", {"kind": ("paid",)})
    write_records(stores, [MeterSet(meter), FeatureSet(feature), plan(card("calls"))])
    return stores


def subscribed(key: str, *subjects: str, start: datetime = MONTH) -> list[Record]:
    """A customer with a subscription."""
    return [
        customer(subjects, f"id-{key}", key),
        subscription(INVOICE, start, name=f"s-{key}", customer_id=f"id-{key}"),
    ]


def test_events_go_back_as_they_were(priced: Stores) -> None:
    """Their bytes untouched, also those without a time, and beside them when they were first received."""
    parked = [
        waiting(f"e{n}", "x", received=MONTH + HOUR + timedelta(microseconds=n // 2), n=1, kind="paid")
        for n in range(4)
    ]
    park(priced, *parked)
    with driving(priced) as flow:
        flow.until_idle()
        assert log_entries(priced) == []
        write_records(priced, subscribed("c", "x"))
        flow.until_idle()
    assert query(priced, "select count(*) from parked_events") == [(0,)]
    found = sorted((received or 0, [event["id"] for event in events]) for events, received, _ in log_entries(priced))
    first = microseconds(MONTH + HOUR)
    assert found == [(first, ["e0", "e1"]), (first + 1, ["e2", "e3"])]
    with redis.Redis.from_url(priced.redis_url) as client:
        streams = [client.xrange(f"tollway:events:{part:03}") for part in range(priced.settings.partitions)]
        lines = {found for entries in streams for _, fields in entries for found in fields[b"e"].split(b"\n")}
    assert lines == {one.raw for one in parked}


def test_what_filters_do_not_take_is_not_put_back(priced: Stores) -> None:
    """Neither when it can't be rated yet, nor whenever anybody changes; it is once its own plan takes it."""
    write_records(priced, subscribed("c", "x"))
    park(priced, waiting("free", "x", ParkCode.UNPRICED, "id-c", meter="calls", n=1, kind="free"), version=9)
    with driving(priced) as flow:
        for number in range(20):
            write_records(priced, subscribed(f"other{number}", f"o{number}"))
        flow.until_idle()
        write_records(priced, [customer(("x", "z"), "id-c", "c")])
        flow.until_idle()
        assert (names(priced), reasons(priced)) == ([], {"free": "unpriced"})
        more = PlanVersion("plan", 2, "USD", "P1M", plan(card("calls"), card("free")).phases)
        write_records(priced, [FeatureSet(Feature("free", "", "calls", {"kind": ("free",)})), more])
        flow.until_idle()
        assert names(priced) == []
        changed = msgspec.structs.replace(subscribed("c")[1], plan_version=2)
        write_records(priced, [changed])
        flow.until_idle()
        assert (names(priced), reasons(priced)) == (["free"], {})


def test_the_reason_and_the_owner_told_are_those_of_now(priced: Stores) -> None:
    """A subject gets a customer, that one a subscription that begins later, then one without a feature for it."""
    park(priced, waiting("e", "x", type_="strange", n=1))
    owner = "select owner, reason, message from parked_events"
    with driving(priced) as flow:
        write_records(priced, [customer(("x",), "id-c", "c")])
        flow.until_idle()
        ((who, why, message),) = query(priced, owner)
        assert (who, why) == ("customer:id-c", "no_subscription")
        assert "`x`" in message
        late = subscription(INVOICE, MONTH + 2 * HOUR, name="s", customer_id="id-c")
        write_records(priced, [late])
        flow.until_idle()
        assert query(priced, owner)[0][1] == "no_subscription"
        write_records(priced, [subscription(INVOICE, MONTH, name="t", customer_id="id-c")])
        flow.until_idle()
        assert query(priced, owner)[0][:2] == ("customer:id-c", "no_feature")
        write_records(priced, [customer((), "id-c", "c")])
        flow.until_idle()
        assert query(priced, owner)[0][:2] == ("subject:x", "unknown_subject")
        assert log_entries(priced) == []


def test_one_id_of_several_subjects(priced: Stores) -> None:
    """Three subjects, two of one customer: the second of these is another event with its id, and is kept and told."""
    park(priced, *(waiting("one", subject, n=1, kind="paid", of=subject) for subject in ("x", "y", "z")))
    assert query(priced, "select count(*) from parked_events") == [(3,)]
    with driving(priced) as flow:
        write_records(priced, [customer(("x", "y"), "id-c", "c"), *subscribed("d", "z")])
        flow.until_idle()
        assert names(priced) == ["one"]
        assert query(priced, "select owner from parked_events") == [("customer:id-c",)]
        ((why, raw),) = query(priced, "select reason, raw from dead_letters")
        assert why == "duplicate_mismatch"
        assert msgspec.json.decode(raw)["subject"] in "xy"


def test_rows_that_come_too_late_for_a_look_are_looked_at(priced: Stores) -> None:
    """They were parked under a catalog that had not seen the change, and are written after it was looked through."""
    with driving(priced) as flow:
        head = write_records(priced, subscribed("c", "x"))
        flow.until_idle()
        park(priced, waiting("late", "x", n=1, kind="paid"), version=head - 1)
        flow.until(lambda: names(priced) == ["late"], "the row to be seen")


def test_changes_while_nothing_ran_are_looked_through(priced: Stores) -> None:
    """How far the redrive has come is kept; a change is looked through once."""
    park(priced, waiting("e", "x", n=1, kind="paid"))
    with driving(priced) as flow:
        flow.until_idle()
    write_records(priced, subscribed("c", "x"))
    with driving(priced) as flow:
        flow.until_idle()
    assert names(priced) == ["e"]
    head = query(priced, "select max(id) from control_log")[0][0]
    assert query(priced, "select looking_to, looked_to from redrive_position") == [(head, head)]


def test_nothing_goes_back_while_the_log_is_short_of_memory(priced: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be rated waits on, and goes back once there is room again."""
    monkeypatch.setattr(dataflows.redrive, "FULL_SECONDS", 0.05)
    park(priced, waiting("e", "x", n=1, kind="paid"))
    write_records(priced, subscribed("c", "x"))
    with redis.Redis.from_url(priced.redis_url) as client:
        client.config_set("maxmemory", 10**9)
        try:
            with driving(priced, memory_percent=0) as flow:
                deadline = time.monotonic() + 1
                flow.until(lambda: time.monotonic() > deadline, "a while")
                assert not flow.redrive.is_idle()
                assert (names(priced), reasons(priced)) == ([], {"e": "unknown_subject"})
        finally:
            client.config_set("maxmemory", 0)
    with driving(priced) as flow:
        flow.until_idle()
    assert (names(priced), reasons(priced)) == (["e"], {})


def test_a_crash_between_leaves_an_event_that_comes_twice(priced: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the log, and its row is there still: it goes back again, and is rated once, also a part of one."""
    write_records(priced, subscribed("c", "x"))
    whole = waiting("whole", "x", ParkCode.NO_SUBSCRIPTION, "id-c", n=1, kind="paid")
    part = waiting("part", "x", ParkCode.UNPRICED, "id-c", meter="calls", n=2, kind="paid")
    park(priced, whole, part)
    put_back = EventLog.append_again

    def crash(log: EventLog, events: Any) -> None:
        put_back(log, events)
        raise redis.ConnectionError("gone after the log had them")

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "append_again", crash)
        with driving(priced) as flow:
            flow.until(lambda: len(names(priced)) == 2, "the events to be in the log")
    assert sorted(reasons(priced)) == ["part", "whole"]
    with driving(priced) as flow:
        flow.until_idle()
    assert names(priced) == ["part", "part", "whole", "whole"]
    assert reasons(priced) == {}
    drain(priced)
    assert query(priced, "select usage, events from usage_periods") == [(3, 2)]
    assert query(priced, "select count(*) from dead_letters") == [(0,)]


@pytest.mark.timed
def test_turns_are_bounded_whatever_waits(priced: Stores, record_property: Any) -> None:
    """400,000 events of nobody and 1,000 that filters keep: a change of others looks at none of them."""
    with psycopg.connect(priced.postgres_dsn) as connection:
        connection.execute(
            "insert into parked_events (source, id, reason, message, subject, customer_id, event_time, control_version,"
            " raw, received_at, event_type) select 's', n::text, 'unknown_subject', '', 'nobody' || n, null, %(at)s, 1,"
            " '{}', %(at)s, 'calls' from generate_series(1, 400000) n",
            {"at": MONTH},
        )
    write_records(priced, subscribed("c", "x"))
    park(
        priced,
        *(waiting(f"free{n}", "x", ParkCode.UNPRICED, "id-c", meter="calls", n=n, kind="free") for n in range(1000)),
        version=5,
    )
    with driving(priced) as flow:
        flow.until_idle()
        flow.longest = 0.0
        started = time.monotonic()
        for number in range(10):
            write_records(priced, subscribed(f"other{number}", f"o{number}"))
            flow.until_idle()
        others = (time.monotonic() - started) / 10
        started = time.monotonic()
        write_records(priced, [customer(("x", "z"), "id-c", "c")])
        flow.until_idle()
        own = time.monotonic() - started
    told = f"a change of others {others * 1000:.0f} ms, of the customer of 1,000 {own * 1000:.0f} ms"
    told += f", the flow held up by at most {flow.longest * 1000:.1f} ms"
    sys.stdout.write(f"\n{told}\n")
    record_property("redrive", told)
    assert flow.longest < 0.05
    assert others < 1
    assert own < 10
    assert names(priced) == []


def test_large_events_go_back_a_few_at_a_time(priced: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more bytes are read and put back in a turn than `BYTES_MAX`."""
    monkeypatch.setattr(dataflows.redrive, "BYTES_MAX", 250_000)
    park(priced, *(waiting(f"e{n}", "x", n=1, kind="paid", more="x" * 100_000) for n in range(7)))
    sizes: list[int] = []
    put_back = EventLog.append_again

    def counting(log: EventLog, events: Any) -> None:
        kept = list(events)
        sizes.append(sum(len(one.line) for one in kept))
        put_back(log, kept)

    monkeypatch.setattr(EventLog, "append_again", counting)
    with driving(priced) as flow:
        write_records(priced, subscribed("c", "x"))
        flow.until_idle()
    assert len(names(priced)) == 7
    assert max(sizes) <= 250_000 < sum(sizes)


# -- through the whole flow -----------------------------------------------------------------------

EARLIER = LAST_MONTH + timedelta(days=9)
"""In the period before this one, which has closed."""


def received_then(stores: Stores, name: str, subject: str, at: datetime, **data: Any) -> None:
    """An event without a time that the log took at an instant."""
    body = {"specversion": "1.0", "id": name, "source": "s", "type": "calls", "subject": subject, "time": None}
    log = EventLog(stores.redis_url, stores.settings.partitions)
    log.append([line(body | {"data": data})], microseconds(at))
    log.close()


def usage(stores: Stores) -> dict[tuple[str, datetime], Decimal]:
    """By feature and billing period."""
    rows = query(stores, "select feature_key, period_start, usage from usage_periods where events > 0")
    return {(feature, start.astimezone(UTC)): used for feature, start, used in rows}


@pytest.mark.parametrize("read_since", [False, True])
def test_an_event_without_a_time_is_rated_in_the_period_of_its_first_receipt(priced: Stores, read_since: bool) -> None:
    """Also when it is placed long after that period has closed, and it is no duplicate with other content then."""
    start = LAST_MONTH
    write_records(priced, subscribed("c", start=start))
    received_then(priced, "late", "x", EARLIER, n=3, kind="paid")
    if read_since:
        received_then(priced, "recent", "c", NOW, n=1, kind="paid")
    drain(priced)
    drain(priced)
    assert reasons(priced) == {"late": "unknown_subject"}
    write_records(priced, [customer(("x",), "id-c", "c")])
    # It is driven again in one run, and its period comes back from the ledger in the next ones.
    for _ in range(20):
        drain(priced)
        if ("calls", start) in usage(priced):
            break
    assert usage(priced).get(("calls", start)) == 3
    assert reasons(priced) == {}
    received_then(priced, "late", "x", NOW, n=3, kind="paid")
    drain(priced)
    assert usage(priced)["calls", start] == 3
    assert query(priced, "select count(*) from dead_letters") == [(0,)]


def test_a_rebuild_counts_what_was_driven_again_once(priced: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The event is rated where it stands, since its customer is known then, and its id may be forgotten later.

    What waited since before the rebuild and is driven again only after it counts once, too.
    """
    monkeypatch.setattr(rating.dedup, "SEGMENT_IDS", 4)
    settings = {"dedup_horizon_seconds": 60}
    start = LAST_MONTH
    write_records(priced, subscribed("c", start=start))
    received_then(priced, "late", "x", NOW - 3 * HOUR, n=3, kind="paid")
    received_then(priced, "later", "y", NOW - 3 * HOUR, n=5, kind="paid")
    for minutes in range(120, 0, -10):
        received_then(priced, f"e{minutes}", "c", NOW - timedelta(minutes=minutes), n=1, kind="paid")
    drain(priced, **settings)
    write_records(priced, [customer(("x",), "id-c", "c")])
    drain(priced, **settings)
    drain(priced, **settings)
    assert sum(usage(priced).values()) == 15
    shutil.rmtree(priced.settings.home / "recovery")
    source = StreamSource(priced.redis_url, 1 << 20, 86_400, Event())
    assert rebuild(priced.settings.home / "recovery", priced.postgres_dsn, {"events": source}, 4).copy is None
    drain(priced, **settings)
    assert sum(usage(priced).values()) == 15
    write_records(priced, [customer(("x", "y"), "id-c", "c")])
    drain(priced, **settings)
    drain(priced, **settings)
    assert sum(usage(priced).values()) == 20
    assert reasons(priced) == {}


def test_what_was_received_after_its_period_closed_is_told_so_and_stays(priced: Stores) -> None:
    """Its customer comes later, but it was too late even so."""
    start = LAST_MONTH
    write_records(priced, subscribed("c", start=start))
    late = {"specversion": "1.0", "id": "late", "source": "s", "type": "calls", "subject": "x"}
    append(priced, [late | {"time": EARLIER.isoformat(), "data": {"n": 3, "kind": "paid"}}])
    drain(priced)
    write_records(priced, [customer(("x",), "id-c", "c")])
    drain(priced)
    assert reasons(priced) == {"late": "period_closed"}
    assert usage(priced) == {}


def test_what_has_no_price_is_rated_once_it_has(stores: Stores) -> None:
    """The event is rated for the meter that has a price; the other's usage waits, is told, and is rated by itself."""
    tokens = Meter("tokens", "prompt", Aggregation.SUM, "$.tokens", {"model": "$.model"})
    calls = Meter("prompts", "prompt", Aggregation.COUNT)
    small, large = (Feature(name, "", "tokens", {"model": (name,)}) for name in ("small", "large"))
    first = plan(card("small"), card("prompts"))
    held = subscription(INVOICE, MONTH, customer_id="id-c")
    write_records(
        stores,
        [
            MeterSet(tokens),
            MeterSet(calls),
            FeatureSet(small),
            FeatureSet(Feature("prompts", "", "prompts")),
            first,
            customer(("x",), "id-c", "c"),
            held,
        ],
    )
    body = {"specversion": "1.0", "source": "s", "type": "prompt", "subject": "x", "time": NOW.isoformat()}
    append(stores, [body | {"id": f"e{n}", "data": {"model": "large", "tokens": n}} for n in (1, 2, 4)])
    drain(stores)
    assert usage(stores) == {("prompts", MONTH): 3}
    rows = query(stores, "select owner, meter, reason, dimensions, quantity, event_type from parked_events order by id")
    assert rows == [
        ("customer:id-c", "tokens", "unpriced", {"model": "large"}, number, "prompt") for number in (1, 2, 4)
    ]
    write_records(stores, subscribed("other", "o"))
    drain(stores)
    assert sorted(names(stores)) == ["e1", "e2", "e4"], "a change of others drives nothing"
    second = PlanVersion("plan", 2, "USD", "P1M", plan(card("small"), card("large"), card("prompts")).phases)
    move = VersionMove(MONTH, 2, NOW)
    write_records(stores, [FeatureSet(large), second, msgspec.structs.replace(held, moves=(move,))])
    drain(stores)
    drain(stores)
    assert usage(stores) == {("prompts", MONTH): 3, ("large", MONTH): 7}
    assert query(stores, "select count(*) from parked_events") == [(0,)]
    assert query(stores, "select count(*) from dead_letters") == [(0,)]
