"""Events that wait in the ledger: whose they are is part of what they are, and none hides another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from rating.outcome import Outcome
from rating.prints import content_of_all
from rating.refusals import ParkCode, Parked
from sinks.metrics import duplicate_mismatches_total
from sinks.postgres import migrate as migrate_module
from sinks.postgres.ledger import DIMENSION_LENGTH_MAX, Ledger, rows_of
from sinks.postgres.migrate import MIGRATIONS, migrate
from sinks.postgres.parked import ParkedRows, WaitsOn
from tests.conftest import Stores
from tests.engine_runs import query

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def waiting(
    subject: str, customer: str | None, raw: bytes = b"{}", received: int = 0, meter: str = "", content: bytes = b""
) -> Parked:
    """An event with the source `s` and the id `1`."""
    code = ParkCode.UNPRICED if meter else ParkCode.UNKNOWN_SUBJECT if customer is None else ParkCode.NO_SUBSCRIPTION
    at = MARCH + timedelta(seconds=received)
    return Parked(code, "why", "s", "1", subject, customer, MARCH, raw, at, meter, type="call", content=content)


def write(stores: Stores, *parked: Parked, version: int = 1) -> None:
    """Write events that wait, each in a hand-over of its own."""
    ledger = Ledger(stores.postgres_dsn)
    for one in parked:
        outcome = Outcome(version)
        outcome.parked.append(one)
        ledger.write(rows_of(outcome, 0, 1))
    ledger.close()


def test_one_id_of_several_owners_is_several_events(stores: Stores) -> None:
    """Of three subjects that nobody has, of a customer, and for one meter of it: none takes another's place."""
    write(
        stores,
        *(waiting(subject, None, f'{{"subject":"{subject}"}}'.encode()) for subject in ("a", "b", "c")),
        waiting("a", "a", b'{"of": "a customer whose id is a subject of another"}'),
        waiting("a", "a", b'{"of": "a customer whose id is a subject of another"}', meter="calls"),
    )
    rows = query(stores, "select owner, meter from parked_events order by owner, meter")
    assert rows == [
        ("customer:a", ""),
        ("customer:a", "calls"),
        ("subject:a", ""),
        ("subject:b", ""),
        ("subject:c", ""),
    ]
    assert query(stores, "select count(*) from dead_letters") == [(0,)]


def test_one_id_with_other_content_is_kept_and_told(stores: Stores) -> None:
    """What was received first waits, be it in one hand-over or in two; the others are dead letters."""
    told = duplicate_mismatches_total._value.get()
    first, second, third = (waiting("x", "acme", b'{"n":%d}' % n, n) for n in (1, 2, 3))
    outcome = Outcome(1)
    outcome.parked += [second, first, second]
    ledger = Ledger(stores.postgres_dsn)
    ledger.write(rows_of(outcome, 0, 1))
    ledger.close()
    write(stores, third, first, third)
    assert query(stores, "select raw from parked_events") == [(b'{"n":1}',)]
    letters = query(stores, "select reason, raw from dead_letters order by raw")
    assert letters == [("duplicate_mismatch", b'{"n":2}'), ("duplicate_mismatch", b'{"n":3}')]
    assert duplicate_mismatches_total._value.get() - told == 2


def test_a_copy_in_another_spelling_is_the_same(stores: Stores) -> None:
    """In one hand-over or in two, and beside what really differs; the row stays that of the first receipt."""
    spellings = [b'{"n":1}', b'{ "n": 1.0 }', b'{"n":10e-1}']
    first, second, third = (
        waiting("x", None, raw, n, content=content_of_all(None, raw)) for n, raw in enumerate(spellings)
    )
    outcome = Outcome(1)
    outcome.parked += [second, first]
    ledger = Ledger(stores.postgres_dsn)
    ledger.write(rows_of(outcome, 0, 1))
    ledger.close()
    other = waiting("x", None, b'{"n":2}', 9, content=content_of_all(None, b'{"n":2}'))
    write(stores, third, other, third)
    assert query(stores, "select raw from parked_events") == [(spellings[0],)]
    assert query(stores, "select raw from dead_letters") == [(other.raw,)]


@pytest.mark.parametrize("digests", [True, False])
def test_of_two_contents_the_first_received_waits_whichever_was_read_first(stores: Stores, digests: bool) -> None:
    """The row becomes that of the other, with all that it says; rows of before this was kept have no digest."""
    first, second = (
        waiting("x", "acme", raw, n, content=content_of_all(None, raw) if digests else b"")
        for n, raw in ((1, b'{"n":1}'), (2, b'{"n":2}'))
    )
    write(stores, second, first, second, first)
    rows = query(stores, "select raw, received_at, bytes from parked_events")
    assert rows == [(first.raw, first.received_at, len(first.raw))]
    assert query(stores, "select reason, raw from dead_letters") == [("duplicate_mismatch", second.raw)]


@pytest.mark.parametrize("earlier", ["subject", "customer"])
def test_where_a_subject_gets_a_customer_the_first_received_waits(stores: Stores, earlier: str) -> None:
    """Both had the same id; in other words they would be the same."""
    of_subject = waiting("x", None, b'{"n":1}', 1 if earlier == "subject" else 3)
    of_customer = waiting("y", "acme", b'{"n":2}', 2)
    write(stores, of_subject, of_customer)
    rows = ParkedRows(stores.postgres_dsn)
    (found,) = rows.of_subjects(["x"], [99], 10)
    waits = WaitsOn(found, "acme", ParkCode.NO_SUBSCRIPTION, "why", 5, "call", found.received_at)
    assert rows.wait_on([waits]) == 1
    rows.close()
    first, second = (of_subject, of_customer) if earlier == "subject" else (of_customer, of_subject)
    assert query(stores, "select owner, subject, raw from parked_events") == [
        ("customer:acme", first.subject, first.raw)
    ]
    assert query(stores, "select raw from dead_letters") == [(second.raw,)]


def test_a_row_keeps_what_an_event_needs_to_be_driven_again(stores: Stores) -> None:
    """Its first receipt, its meter, its type and its bytes; dimensions as a row can hold them."""
    dimensions = {"model": "a\0b", "prompt": "x" * 10_000, "quoted": 'a "b" \\ c\n'}
    outcome = Outcome(7)
    outcome.parked.append(
        Parked(
            ParkCode.UNPRICED,
            "why",
            "s",
            "1",
            "x",
            "acme",
            MARCH,
            b'{"a":"\xc3\xa9"}',
            MARCH + timedelta(microseconds=1),
            "tokens",
            dimensions,
            "llm",
            Decimal("1.50"),
        )
    )
    ledger = Ledger(stores.postgres_dsn)
    ledger.write(rows_of(outcome, 0, 1))
    ledger.close()
    (row,) = query(stores, "select received_at, meter, event_type, quantity, bytes, raw, dimensions from parked_events")
    *plain, kept = row
    assert plain == [
        MARCH + timedelta(microseconds=1),
        "tokens",
        "llm",
        Decimal("1.50"),
        10,
        b'{"a":"\xc3\xa9"}',
    ]
    assert kept["model"] == "a\N{REPLACEMENT CHARACTER}b"
    assert kept["quoted"] == 'a "b" \\ c\n'
    assert len(kept["prompt"]) == DIMENSION_LENGTH_MAX


@pytest.mark.parametrize(("version", "unseen"), [(4, True), (5, False), (6, False)])
def test_a_row_that_comes_too_late_for_a_look_says_so(stores: Stores, version: int, unseen: bool) -> None:
    """One that was parked under an older catalog than what the redrive has looked through."""
    with psycopg.connect(stores.postgres_dsn) as connection:
        connection.execute("insert into redrive_position (looking_to, looked_to) values (5, 3)")
    write(stores, waiting("x", None), version=version)
    assert query(stores, "select unseen from parked_events") == [(unseen,)]


def test_a_row_that_went_to_the_wrong_key_group_is_looked_at(stores: Stores) -> None:
    """A customer has its subject, though no entry of the control log is to come that says so."""
    with psycopg.connect(stores.postgres_dsn) as connection:
        connection.execute("insert into redrive_position (looking_to, looked_to) values (5, 5)")
    stray = Parked(ParkCode.UNKNOWN_SUBJECT, "why", "s", "1", "x", "acme", MARCH, b"{}", MARCH)
    write(stores, stray, version=9)
    assert query(stores, "select unseen from parked_events") == [(True,)]


def test_rows_of_before_are_kept(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The migration gives them an owner, takes the time of parking for that of receiving, and has them looked at."""
    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
    for found in sorted(MIGRATIONS.glob("*.sql")):
        if found.name < "0010":
            (tmp_path / found.name).write_text(found.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(migrate_module, "MIGRATIONS", tmp_path)
        migrate(stores.postgres_dsn)
    with psycopg.connect(stores.postgres_dsn) as connection:
        for event_id, customer in (("1", None), ("2", "acme")):
            connection.execute(
                "insert into parked_events (source, id, reason, message, subject, customer_id, event_time,"
                " control_version, raw) values ('s', %s, 'no_feature', 'why', 'x', %s, %s, 3, '{}')",
                (event_id, customer, MARCH),
            )
    migrate(stores.postgres_dsn)
    rows = query(
        stores,
        "select owner, id, meter, received_at = parked_at, unseen, control_version from parked_events order by id",
    )
    assert rows == [("subject:x", "1", "", True, True, 3), ("customer:acme", "2", "", True, True, 3)]
