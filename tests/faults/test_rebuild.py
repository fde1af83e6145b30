"""The recovery store is lost, and made anew from its newest copy and the event log."""

from __future__ import annotations

import random
import shutil
import time
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from typing import Any

import psycopg
import pytest
import redis

from dataflows.engine import stream_source
from dataflows.recovery.copies import KEPT, NotCopied, copies, copy_store
from dataflows.recovery.rebuild import Rebuilt, RecoveryStoreThere, rebuild
from dataflows.sources.streams import StreamOffsetGone
from sinks.postgres.ledger import LedgerInUse, sole_writer
from sinks.redis.keys import stream_key
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
from tollway.commands.failures import explain
from tollway.console import BAD_INPUT

CUSTOMERS = 20
COUNT = 4000


@pytest.fixture
def stream(stores: Stores) -> list[dict[str, Any]]:
    """Events of customers with two grants each, and their catalog in the control log."""
    chance = random.Random(7)
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(300), Decimal(chance.randrange(1, 5000))), start=MONTH)
    write_records(stores, records)
    return list(events(chance, COUNT, CUSTOMERS, MONTH, NOW - MONTH))


def copied(stores: Stores, at: datetime | None = None) -> int:
    """Copy the recovery store now. Returns the epoch."""
    return copy_store(stores.settings.home / "recovery", stores.postgres_dsn, at or datetime.now(UTC)).epoch


def lose(stores: Stores) -> None:
    """The recovery store is gone."""
    shutil.rmtree(stores.settings.home / "recovery")


def made_anew(stores: Stores) -> Rebuilt:
    """What `tollway recovery rebuild` does."""
    source = stream_source(stores.settings, stores.redis_url, Event(), drain=True)
    return rebuild(stores.settings.home / "recovery", stores.postgres_dsn, {"events": source}, 4)


def test_a_lost_recovery_store_is_made_anew(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Rated, copied, rated on, lost, made anew: the ledger is the oracle's, and goes on; duplicates stay duplicates."""
    append(stores, stream[:1500])
    drain(stores)
    copied(stores)
    for start in range(1500, 3000, 500):
        append(stores, stream[start : start + 500])
        drain(stores)
    check_ledger(stores, stream[:3000], CUSTOMERS)
    lose(stores)
    assert made_anew(stores).rows_taken_back > 0
    drain(stores)
    check_ledger(stores, stream[:3000], CUSTOMERS)
    append(stores, stream[1000:])
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_a_copy_taken_while_the_flow_runs_is_whole(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Copies in the midst of a stream, by the command that the dataflow calls; then the machine burns down."""
    with engine_process(stores, TOLLWAY_RECOVERY_COPY_SECONDS="1") as process:
        wait_for(lambda: visible(stores, "c0") or process.poll() is not None, "the engine")
        begun = time.monotonic()
        at = 0
        while at < COUNT or len(listed(stores)) < 3:
            append(stores, stream[at : at + 20])
            at += 20
            let_pass(0.02, "a stream, not a flood")
            assert time.monotonic() - begun < PATIENCE_SECONDS, engine_log(stores)
            assert process.poll() is None, engine_log(stores)
        wait_for(lambda: query(stores, "select sum(events) from usage_periods")[0][0] == COUNT, "all to be rated")
        process.kill()
        process.wait()
    lose(stores)
    rebuilt = made_anew(stores)
    assert rebuilt.copy is not None
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def listed(stores: Stores) -> list[Any]:
    """The copies."""
    with psycopg.connect(stores.postgres_dsn) as connection:
        return copies(connection)


def test_without_a_copy_all_is_rated_again(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """As long as the log goes back to its beginning."""
    for start in range(0, COUNT, 1000):
        append(stores, stream[start : start + 1000])
        drain(stores)
    lose(stores)
    assert made_anew(stores).copy is None
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_a_gap_in_the_log_is_told_and_nothing_is_changed(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Usage since the copy that is not in the log any more can't come again, so its rows stay."""
    append(stores, stream[:1000])
    drain(stores)
    copied(stores)
    append(stores, stream[1000:2000])
    drain(stores)
    with redis.Redis.from_url(stores.redis_url) as client:
        for part in range(stores.settings.partitions):
            client.xtrim(stream_key(part), maxlen=0, approximate=False)
    lose(stores)
    with pytest.raises(StreamOffsetGone):
        made_anew(stores)
    check_ledger(stores, stream[:2000], CUSTOMERS)
    assert not (stores.settings.home / "recovery").exists()


def test_a_gap_ends_the_flow_unless_it_is_accepted(
    stores: Stores, stream: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Entries that left unread are an error with a remedy; the operator may go on without them, and it is logged."""
    append(stores, stream[:1000])
    drain(stores)
    append(stores, stream[1000:2000])
    with redis.Redis.from_url(stores.redis_url) as client:
        for part in range(stores.settings.partitions):
            client.xtrim(stream_key(part), maxlen=0, approximate=False)
    append(stores, stream[2000:])
    with pytest.raises(Exception, match="error") as raised:
        drain(stores)
    explained = explain(raised.value)
    assert explained is not None
    assert "left it unread" in explained[0]
    assert "TOLLWAY_LOG_ACCEPT_GAP" in explained[0]
    assert explained[1] == BAD_INPUT
    drain(stores, log_accept_gap=True)
    assert "goes on without them" in caplog.text
    check_ledger(stores, stream[:1000] + stream[2000:], CUSTOMERS)
    drain(stores)


def test_a_log_that_was_made_anew_is_read(
    stores: Stores, stream: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that had more entries once is another one: that is logged, and what is in it is rated."""
    append(stores, stream[:1000])
    drain(stores)
    with redis.Redis.from_url(stores.redis_url) as client:
        client.delete(*(stream_key(part) for part in range(stores.settings.partitions)))
    drain(stores)
    assert caplog.text.count("was made anew") == stores.settings.partitions
    append(stores, stream[1000:2000])
    drain(stores)
    check_ledger(stores, stream[:2000], CUSTOMERS)


def test_a_store_that_is_there_or_in_use_is_not_made_anew(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Neither over a store, nor under a dataflow; an empty folder is no store."""
    append(stores, stream[:100])
    drain(stores)
    with pytest.raises(RecoveryStoreThere):
        made_anew(stores)
    lose(stores)
    with sole_writer(stores.postgres_dsn, 0), pytest.raises(LedgerInUse):
        made_anew(stores)
    (stores.settings.home / "recovery").mkdir()
    made_anew(stores)
    drain(stores)
    check_ledger(stores, stream[:100], CUSTOMERS)


def test_old_copies_leave_and_halves_do_not_count(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """So many are kept; a copy without one of its parts, or of two epochs, is passed over for an older one."""
    store = stores.settings.home / "recovery"
    with pytest.raises(NotCopied):
        copied(stores)
    append(stores, stream[:1000])
    drain(stores)
    for _ in range(KEPT + 2):
        copied(stores)
    assert len(listed(stores)) == KEPT
    whole = copied(stores)
    append(stores, stream[1000:2000])
    drain(stores)
    # As two processes leave it that did not meet: one part of the epoch before, the others of this one.
    at = datetime.now(UTC)
    earlier = store.with_name("earlier")
    assert copied(stores, at) > whole
    query_one(stores, "delete from recovery_copies where copied_at = %s and part = 2", at)
    shutil.rmtree(earlier, ignore_errors=True)
    query_one(
        stores,
        "insert into recovery_copies select %s, part, parts, epoch, chunk, content from recovery_copies"
        " where part = 2 and epoch = %s and copied_at ="
        " (select max(copied_at) from recovery_copies where epoch = %s and part = 2)",
        at,
        whole,
        whole,
    )
    lose(stores)
    rebuilt = made_anew(stores)
    assert rebuilt.copy is not None
    assert rebuilt.copy.epoch == whole
    drain(stores)
    check_ledger(stores, stream[:2000], CUSTOMERS)


def query_one(stores: Stores, statement: str, *values: object) -> None:
    """Change something in the ledger."""
    with psycopg.connect(stores.postgres_dsn) as connection:
        assert connection.execute(statement.encode(), values).rowcount > 0
