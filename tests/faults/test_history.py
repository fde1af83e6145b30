"""The ledger is in another history than Redis has seen: that is noticed at the start, and all is told anew."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import redis

from config.api import ApiSettings
from dataflows.history import LedgerHistory, why_another
from rating.catalog import Grant
from sinks.kafka.client import KafkaUnavailable
from sinks.postgres.generations import LedgerState, raise_generation, read_state
from sinks.postgres.ledger import LedgerOutdated
from sinks.redis.history import Remembered
from sinks.redis.keys import HISTORY, balance_key, stream_key
from tests.conftest import Stores
from tests.deploy.restoring import calls
from tests.deploy.test_backup import backed_up, restored
from tests.engine_runs import append, check_ledger, drain, query, visible, write_records
from tests.world import MONTH, NOW, catalog_records, customer_records, events
from tollway.api.server.stores import ServerStores
from tollway.control import CustomerDraft

CUSTOMERS = 8

LEDGER = LedgerState(7, "x", 40, 90)


def generations(stores: Stores) -> list[int]:
    """All generations that the ledger had."""
    return [number for (number,) in query(stores, "select number from generations order by number")]


def remembered(stores: Stores) -> dict[str, str]:
    """What Redis remembers."""
    with redis.Redis.from_url(stores.redis_url, decode_responses=True) as client:
        found: Any = client.hgetall(HISTORY)
        return dict(found)


def told_in(stores: Stores) -> set[int]:
    """The generations in which customers were told."""
    return {int(visible(stores, f"c{number}")["generation"]) for number in range(CUSTOMERS)}


def granted(number: int, amount: int) -> Grant:
    """A top-up."""
    return Grant(
        id=f"top-up-{number}",
        customer_id=f"customer-{number}",
        amount=Decimal(amount),
        currency="USD",
        effective_at=MONTH,
        created_at=datetime.now(UTC),
    )


@pytest.fixture
def stream(stores: Stores) -> list[dict[str, Any]]:
    """All customers have used up what they had."""
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(1),), start=MONTH)
    write_records(stores, records)
    found = list(events(random.Random(3), 400, CUSTOMERS, MONTH, NOW - MONTH))
    append(stores, found)
    drain(stores)
    assert {visible(stores, f"c{number}")["access"] for number in range(CUSTOMERS)} == {"blocked"}
    return found


@pytest.mark.parametrize(
    ("ledger", "seen", "head", "said"),
    [
        (LedgerState(0, "", 0, 0), None, 0, "first"),
        (LEDGER, None, 0, "remembered nothing"),
        (LEDGER, Remembered(7, "x", 40), 90, None),
        (LEDGER, Remembered(7, "x", 12), 12, None),
        (LEDGER, Remembered(6, "w", 99), 99, None),
        (LEDGER, Remembered(8, "y", 12), 12, "generation 8"),
        (LEDGER, Remembered(7, "y", 12), 12, "generation 7"),
        (LEDGER, Remembered(7, "x", 41), 90, "41 commits"),
        (LEDGER, Remembered(7, "x", 40), 91, "entry 91"),
    ],
)
def test_what_makes_another_history(ledger: LedgerState, seen: Remembered | None, head: int, said: str | None) -> None:
    """Less than Redis has seen; a ledger that is ahead of Redis, or of a greater generation, is told by itself."""
    why = why_another(ledger, seen, head)
    assert (why is None) == (said is None)
    assert said is None or said in str(why)


def test_going_on_over_a_gap_is_another_history() -> None:
    """What was told of an epoch that was never committed may be gone from the log; once is enough for a cluster."""
    seen = Remembered(7, "x", 40)
    assert "gone from the log" in str(why_another(LEDGER, seen, 90, accepts_gaps=True))
    assert why_another(LEDGER, Remembered(6, "w", 40), 90, accepts_gaps=True) is None


def test_usage_that_is_gone_with_an_epoch_that_was_never_committed(
    stores: Stores, stream: list[dict[str, Any]]
) -> None:
    """Redis shows it, the ledger never had it, the log lost it: the start that accepts the gap puts Redis right."""
    write_records(stores, [granted(0, 1000)])
    drain(stores)
    with redis.Redis.from_url(stores.redis_url) as client:
        client.hset(balance_key("c0"), mapping={"access": "blocked", "revision": "999999", "live": "0"})
        for part in range(stores.settings.partitions):
            client.xtrim(stream_key(part), maxlen=0, approximate=False)
    drain(stores)
    assert visible(stores, "c0")["access"] == "blocked", "a revision of the same history is never undone"
    drain(stores, log_accept_gap=True)
    assert visible(stores, "c0")["access"] == "allowed"


def test_what_the_log_leads_to_again_is_not_told_twice(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Blocked after the backup by usage that is in the log: still so after the restore, and never allowed between."""
    write_records(stores, [granted(0, 1000)])
    drain(stores)
    assert visible(stores, "c0")["access"] == "allowed"
    backed_up(stores)
    append(stores, calls(0, 40_000, "more"))
    drain(stores)
    assert visible(stores, "c0")["access"] == "blocked"
    statement = "select kind from signals where customer_key = 'c0' and kind like 'access%%' order by sequence"
    before = query(stores, statement)
    assert before == [("access_blocked",), ("access_allowed",), ("access_blocked",)]
    restored(stores)
    drain(stores)
    shown = visible(stores, "c0")
    assert (shown["access"], shown["generation"]) == ("blocked", str(generations(stores)[-1]))
    assert len(generations(stores)) == 2
    assert query(stores, statement) == before


def test_a_generation_is_above_all_that_anybody_has_seen(stores: Stores) -> None:
    """It is an instant, so also where nobody remembers the one before; two at once, and a clock set back, differ."""
    with psycopg.connect(stores.postgres_dsn) as connection:
        first = raise_generation(connection, "a test")
        assert first > NOW.timestamp() * 1000
        second = raise_generation(connection, "a test")
        assert second > first
        assert raise_generation(connection, "a test", above=second + 10**12) == second + 10**12 + 1
        assert read_state(connection).generation == second + 10**12 + 1


def test_starting_again_is_no_other_history(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Nor is the first start with it another one than the ledger's first."""
    assert len(generations(stores)) == 1
    append(stores, stream[:10])
    drain(stores)
    assert len(generations(stores)) == 1
    assert remembered(stores)["generation"] == str(generations(stores)[0])
    assert int(remembered(stores)["commits"]) == query(stores, "select sum(sink_seq) from sink_commits")[0][0]


def test_two_restores_in_a_row_are_two_histories(
    stores: Stores, stream: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Of one backup, each time with other top-ups since: who has none any more is blocked, and signals say so once."""
    backed_up(stores)
    for life in range(2):
        write_records(stores, [granted(life, 1000)])
        drain(stores)
        assert visible(stores, f"c{life}")["access"] == "allowed"
        restored(stores)
        drain(stores)
        check_ledger(stores, stream, CUSTOMERS)
        assert visible(stores, f"c{life}")["access"] == "blocked"
        assert told_in(stores) == {generations(stores)[-1]}
        assert len(generations(stores)) == 2, "the other one was lost with the ledger"
    assert caplog.text.count("all balances are told anew") == 2
    turns = query(
        stores, "select kind, count(*) from signals where customer_key = 'c1' and kind like 'access%%' group by 1"
    )
    assert sorted(turns) == [("access_allowed", 1), ("access_blocked", 2)]


def test_raising_that_was_cut_short_is_finished(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Raised in the ledger, and nothing told: the next start tells it, and Redis remembers it only then."""
    first = remembered(stores)
    history = LedgerHistory(stores.postgres_dsn, stores.redis_url, None)
    with psycopg.connect(stores.postgres_dsn) as connection:
        raise_generation(connection, "a test")
    history.begin()
    assert history.generation() == generations(stores)[-1]
    assert remembered(stores) == first
    assert told_in(stores) == {int(first["generation"])}
    drain(stores)
    assert told_in(stores) == {generations(stores)[-1]} == {int(remembered(stores)["generation"])}
    assert len(generations(stores)) == 2


def test_a_flow_that_does_not_fit_shuts_nobody_out(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Whoever starts it on the wrong ledger finds all as it was, once it runs on the right one."""
    backed_up(stores)
    write_records(stores, customer_records(CUSTOMERS, (Decimal(50),), start=MONTH))
    drain(stores)
    restored(stores, recovery=False)
    with pytest.raises(LedgerOutdated):
        drain(stores)
    assert visible(stores, f"c{CUSTOMERS}")["access"] == "allowed"


def test_a_redis_that_was_lost_is_filled_in_a_generation_of_its_own(
    stores: Stores, stream: list[dict[str, Any]]
) -> None:
    """For the ledger may have been lost with it, and gates remember both."""
    with redis.Redis.from_url(stores.redis_url) as client:
        client.delete(HISTORY, *(balance_key(f"c{number}") for number in range(CUSTOMERS)))
    drain(stores)
    assert told_in(stores) == {generations(stores)[-1]}
    assert len(generations(stores)) == 2
    assert visible(stores, "c0")["access"] == "blocked"


def test_a_redis_of_an_older_day_is_told_what_the_ledger_says(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """It remembers less than there is, so no history is lost: all balances come at the start."""
    with redis.Redis.from_url(stores.redis_url) as client:
        keys = [HISTORY, *(balance_key(f"c{number}") for number in range(CUSTOMERS))]
        dumped = [client.dump(key) for key in keys]
        write_records(stores, [granted(0, 1000)])
        drain(stores)
        for key, dump in zip(keys, dumped, strict=True):
            client.restore(key, 0, dump, replace=True)
    assert visible(stores, "c0")["access"] == "blocked"
    drain(stores)
    assert visible(stores, "c0")["access"] == "allowed"
    assert len(generations(stores)) == 1


def test_a_customer_of_a_lost_history_is_blocked(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """And with it what the HTTP API knows of it; a customer whom both know is as the ledger has it."""
    api = ServerStores(stores.redis_url, stores.postgres_dsn, 4, ApiSettings())
    backed_up(stores)
    with api.plane.changing() as changes:
        changes.put_customer(CustomerDraft(key="later", subjects=("later-app",)))
    api.projector.catch_up()
    drain(stores)
    assert visible(stores, "later")["access"] == "allowed"
    with redis.Redis.from_url(stores.redis_url) as client:
        assert client.exists("tollway:{later}:gate")
        api.close()
        restored(stores)
        api = ServerStores(stores.redis_url, stores.postgres_dsn, 4, ApiSettings())
        api.projector.catch_up()
        assert client.exists("tollway:{later}:gate"), "no dataflow has said yet that it is another history"
        drain(stores)
        shown = visible(stores, "later")
        assert (shown["access"], shown["reason"]) == ("blocked", "unknown_customer")
        api.projector.catch_up()
        assert not client.exists("tollway:{later}:gate")
        assert not client.hexists("tollway:gate:names", "later-app")
        # What is made again has entries that the lost history had too, and is seen all the same.
        with api.plane.changing() as changes:
            changes.put_customer(CustomerDraft(key="again"))
        api.projector.catch_up()
        assert client.exists("tollway:{again}:gate")
    api.close()
    told = query(stores, "select kind, reason from signals where customer_key = 'later'")
    assert told == [("access_blocked", "unknown_customer")]


def test_the_head_of_the_control_log_comes_back(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Beyond the end of the log it would have every batch ask PostgreSQL for entries that do not come."""
    backed_up(stores)
    write_records(stores, [granted(0, 1000)])
    drain(stores)
    restored(stores)
    drain(stores)
    with redis.Redis.from_url(stores.redis_url) as client:
        head: Any = client.get("tollway:control:head")
    assert int(head) == query(stores, "select max(id) from control_log")[0][0]


def test_a_broker_that_is_away_leaves_it_to_the_next_look() -> None:
    """The dataflow does not end for it."""
    history = LedgerHistory("", "", None)

    def away(**_given: object) -> None:
        raise KafkaUnavailable("away")

    history.catch_up = away  # type: ignore[method-assign]
    with history.keeping():
        pass
