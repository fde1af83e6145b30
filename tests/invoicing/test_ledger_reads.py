"""The ledger as people and programs read it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from rating.catalog import (
    Catalog,
    Customer,
    Grant,
    PlanVersion,
    Record,
    SettlementMode,
    Subscription,
    key_group,
)
from rating.group import KeyGroup
from rating.money import ZERO, plain
from rating.outcome import Outcome
from rating.refusals import ParkCode, Parked, RejectCode, Rejected
from rating.time_rules import TimeRules
from tests.invoicing.books import APRIL, HOUR, MARCH, Books, pricing, unit
from tests.world import START, catalog_records, customer_records, events, line
from tollway.ledger_reads import (
    Charge,
    ChargeStatus,
    CreditGrant,
    CreditTransaction,
    GrantStatus,
    NotFound,
    balance,
    charges,
    credit_grants,
    credit_transactions,
    dead_letters,
    find_customer,
    parked,
    signals,
)

D = Decimal
DAY = timedelta(days=1)


def told(found: list[CreditTransaction]) -> list[tuple[str, str, str, str]]:
    """Each movement: what, of which grant, how much, and the balance after it."""
    return [(t.type.value, t.grant_id, plain(t.amount), plain(t.available_balance.after)) for t in found]


def test_a_customer_is_found_by_id_and_by_key(books: Books) -> None:
    """By id first, for a key may look like one."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.customer("id-of-acme", {"calls": pricing(unit("1"))})
    assert find_customer(books.connection, "acme").id == "id-of-acme"
    assert find_customer(books.connection, "id-of-acme").key == "acme"
    assert find_customer(books.connection, "id-of-id-of-acme").key == "id-of-acme"


@pytest.mark.parametrize("read", [balance, charges, credit_grants, credit_transactions, signals])
def test_an_unknown_customer_is_not_found(books: Books, read: Callable[..., list[Charge] | list[CreditGrant]]) -> None:
    """With a hint, and without a stack of database errors."""
    for name in ("nobody", "nul\0"):
        with pytest.raises(NotFound, match="there is no customer") as caught:
            read(books.connection, name)
        assert caught.value.hint


def test_a_balance_nobody_told_yet_is_zero_and_allowed(books: Books) -> None:
    """As long as the dataflow has not seen the customer, it has nothing and may go on."""
    books.customer("acme", {"calls": pricing(unit("1"), "JPY")})
    found = balance(books.connection, "acme")
    assert (found.customer_id, found.customer_key, found.currency) == ("id-of-acme", "acme", "JPY")
    assert (found.access, found.reason, found.revision, found.live) == ("allowed", "", 0, ZERO)


def test_a_balance_is_the_one_last_told(books: Books) -> None:
    """By id or key."""
    books.customer("acme", {"calls": pricing(unit("0.1"))})
    books.used("acme", "calls", "55", "3.5")
    found = balance(books.connection, "acme")
    assert (found.charged, found.consumed, found.uncovered) == (D("5.5"), D("3.5"), D(2))
    assert found == balance(books.connection, "id-of-acme")


def test_charges_are_told_by_feature_and_period(books: Books) -> None:
    """Oldest period first, closed or active, and the minimum apart."""
    books.customer("acme", {"calls": pricing(unit("0.1", minimumAmount="50")), "tokens": pricing(unit("1"))})
    books.used("acme", "calls", "55", "3.5", closed=True)
    books.used("acme", "tokens", "7", start=APRIL)
    books.used("acme", "calls", "1", start=APRIL)
    first, second, third = charges(books.connection, "acme")
    assert (first.feature_key, first.period_start, first.status) == ("calls", MARCH, ChargeStatus.CLOSED)
    assert (first.usage, first.amount, first.commitment) == (D(55), D("5.5"), D("44.5"))
    assert (first.credits, first.uncovered) == (D("3.5"), D("46.5"))
    assert [(c.feature_key, c.period_start, c.status.value) for c in (second, third)] == [
        ("calls", APRIL, "active"),
        ("tokens", APRIL, "active"),
    ]
    assert charges(books.connection, "acme", feature_key="tokens") == [third]
    assert charges(books.connection, "acme", status=ChargeStatus.CLOSED) == [first]
    assert charges(books.connection, "acme", status=ChargeStatus.ACTIVE) == [second, third]


def test_instants_are_in_utc_whatever_the_session_says(books: Books) -> None:
    """A reader in Berlin gets the same text."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "1")
    books.connection.execute("set time zone 'Europe/Berlin'")
    (found,) = charges(books.connection, "acme")
    assert found.period_start.isoformat() == "2026-03-01T00:00:00+00:00"


def test_a_grant_tells_what_became_of_it(books: Books) -> None:
    """Funded is available, pending, consumed, expired and voided together, whatever the instant."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.grant("acme", "active", "10", priority=5, name="Welcome")
    books.grant("acme", "later", "20", effective_at=APRIL, features=("calls",))
    books.grant("acme", "over", "30", expires_at=MARCH + 5 * DAY)
    books.grant("acme", "void", "40", voided_at=MARCH + 2 * DAY)
    books.paid("acme", "calls", MARCH, {"active": "2.5", "over": "30"})
    books.paid("acme", "calls", MARCH + HOUR, {"active": "0.5", "void": "1"})

    def at(instant: datetime) -> list[tuple[str, str, Decimal, Decimal, Decimal, Decimal, Decimal]]:
        found = credit_grants(books.connection, "acme", at=instant)
        assert all(g.amount == g.available + g.pending + g.consumed + g.expired + g.voided for g in found)
        return [(g.id, g.status.value, g.available, g.pending, g.consumed, g.expired, g.voided) for g in found]

    assert at(MARCH + 10 * DAY) == [
        ("active", "active", D(7), D(0), D(3), D(0), D(0)),
        ("later", "pending", D(0), D(20), D(0), D(0), D(0)),
        ("over", "expired", D(0), D(0), D(30), D(0), D(0)),
        ("void", "voided", D(0), D(0), D(1), D(0), D(39)),
    ]
    assert [status for _, status, *_ in at(APRIL)] == ["active", "active", "expired", "voided"]
    (welcome, later, *_) = credit_grants(books.connection, "acme", at=APRIL)
    assert (welcome.name, welcome.priority, later.features) == ("Welcome", 5, ("calls",))


def test_transactions_tell_how_credits_came_and_went(books: Books) -> None:
    """By instant, then by type; each goes on from the balance before it."""
    books.customer("acme", {"calls": pricing(unit("1")), "tokens": pricing(unit("1"))})
    books.grant("acme", "a", "10", expires_at=MARCH + 3 * HOUR, name="Trial")
    books.grant("acme", "b", "20", created_at=MARCH + HOUR, voided_at=MARCH + 2 * HOUR)
    books.grant("acme", "c", "5", created_at=MARCH + 2 * HOUR)
    books.grant("acme", "d", "99", effective_at=APRIL)
    books.paid("acme", "calls", MARCH, {"a": "1.5"})
    books.paid("acme", "tokens", MARCH + HOUR, {"a": "2.25", "b": "4"})
    found = credit_transactions(books.connection, "acme", at=MARCH + DAY)
    assert told(found) == [
        ("funded", "a", "10", "10"),
        ("consumed", "a", "-1.5", "8.5"),
        ("funded", "b", "20", "28.5"),
        ("consumed", "a", "-2.25", "26.25"),
        ("consumed", "b", "-4", "22.25"),
        ("funded", "c", "5", "27.25"),
        ("voided", "b", "-16", "11.25"),
        ("expired", "a", "-6.25", "5"),
    ]
    assert all(t.available_balance.before + t.amount == t.available_balance.after for t in found)
    assert [t.id for t in found] == sorted({t.id for t in found})
    first, second = found[:2]
    assert (first.name, first.currency, first.feature_key, first.booked_at) == ("Trial", "USD", None, MARCH)
    assert (second.feature_key, second.window_start) == ("calls", MARCH)


def test_a_grant_cannot_pay_before_it_was_there(books: Books) -> None:
    """Overage of earlier windows is repaid when the grant comes, and no balance is ever below 0."""
    books.customer("acme", {"calls": pricing(unit("1"))}, SettlementMode.CREDIT_ONLY)
    books.grant("acme", "a", "10", created_at=MARCH + 5 * HOUR)
    books.paid("acme", "calls", MARCH, {"a": "1"})
    books.paid("acme", "calls", MARCH + HOUR, {"a": "2"})
    assert told(credit_transactions(books.connection, "acme")) == [
        ("funded", "a", "10", "10"),
        ("consumed", "a", "-1", "9"),
        ("consumed", "a", "-2", "7"),
    ]


def test_a_grant_voided_before_it_could_pay_comes_and_goes_at_once(books: Books) -> None:
    """Nor does one that had expired when it was made pass for available."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.grant("acme", "a", "10", effective_at=APRIL, voided_at=MARCH + DAY)
    books.grant("acme", "b", "20", created_at=MARCH + 3 * DAY, expires_at=MARCH + 2 * DAY)
    found = credit_transactions(books.connection, "acme", at=MARCH + 9 * DAY)
    assert [(t.type.value, t.booked_at, t.available_balance.after) for t in found] == [
        ("funded", MARCH + DAY, D(10)),
        ("voided", MARCH + DAY, D(0)),
        ("funded", MARCH + 3 * DAY, D(20)),
        ("expired", MARCH + 3 * DAY, D(0)),
    ]


def test_transactions_can_be_read_in_pages_either_way(books: Books) -> None:
    """From the id where the page before it ended; balances do not depend on the page."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.grant("acme", "a", "100")
    for hour in range(7):
        books.paid("acme", "calls", MARCH + hour * HOUR, {"a": "1"})
    whole = credit_transactions(books.connection, "acme")
    for newest_first in (False, True):
        pages: list[CreditTransaction] = []
        cursor = None
        while page := credit_transactions(books.connection, "acme", cursor=cursor, limit=3, newest_first=newest_first):
            pages += page
            cursor = page[-1].id
        assert pages == (whole[::-1] if newest_first else whole)


@pytest.mark.parametrize("mode", list(SettlementMode))
@pytest.mark.parametrize("seed", range(3))
def test_what_the_dataflow_tells_reads_as_one_account(books: Books, mode: SettlementMode, seed: int) -> None:
    """Windows add up to periods, periods to the balance, grants and transactions to what is available."""
    chance = random.Random(seed)
    records = [*catalog_records(mode), *customer_records(0, (D(3), D(40)), mode)]
    later = [
        Grant("now", "customer-0", D(25), "USD", START + 3 * DAY, START + 3 * DAY),
        Grant("soon", "customer-0", D(9), "USD", START + DAY, START, 5, ("calls",), START + 2 * DAY),
        Grant("far", "customer-0", D(99), "USD", START + 300 * DAY, START),
    ]
    catalog = Catalog()
    group = KeyGroup(key_group("customer-0"), catalog, TimeRules())
    stream = list(events(chance, 300, 1))
    chance.shuffle(stream)
    now = START + 3 * DAY + HOUR
    entry_id = 0

    def apply(record: Record) -> None:
        nonlocal entry_id
        entry_id += 1
        catalog.apply(entry_id, record)
        if isinstance(record, PlanVersion | Customer | Subscription | Grant):
            books.record(record)

    def step(batch: list[dict[str, object]]) -> None:
        out = Outcome()
        group.reconcile(["customer-0"], now, out)
        group.fold(b"\n".join(map(line, batch)), now, now, out)
        group.beat(now, out)
        books.write(out)

    for record in records:
        apply(record)
    while stream:
        if later and chance.random() < 0.3:
            apply(later.pop())
        step([stream.pop() for _ in range(min(len(stream), chance.randrange(1, 50)))])
        check_account(books, now)
    assert charges(books.connection, "c0")
    while later:
        apply(later.pop())
        step([])
        check_account(books, now)


def check_account(books: Books, now: datetime) -> None:
    """All reads of customer `c0` agree."""
    found = balance(books.connection, "c0")
    of_periods = charges(books.connection, "c0", windows=True)
    for charge in of_periods:
        assert charge.usage == sum(window.quantity for window in charge.windows)
        assert charge.amount == sum(window.amount for window in charge.windows)
        assert charge.credits == sum(window.credits for window in charge.windows)
        assert charge.amount + charge.commitment == charge.credits + charge.uncovered
    assert found.charged == sum(charge.amount + charge.commitment for charge in of_periods)
    assert found.consumed == sum(charge.credits for charge in of_periods)
    assert found.uncovered == sum(charge.uncovered for charge in of_periods)
    grants = credit_grants(books.connection, "c0", at=now)
    assert found.funded == sum(grant.amount for grant in grants)
    assert found.settled == sum(grant.available for grant in grants)
    assert found.pending == sum(grant.pending for grant in grants)
    assert found.expired == sum(grant.expired for grant in grants)
    assert found.consumed == sum(grant.consumed for grant in grants)
    transactions = credit_transactions(books.connection, "c0", at=now)
    assert transactions[-1].available_balance.after == found.settled if transactions else not found.settled
    assert {grant.status for grant in grants} <= set(GrantStatus)


def test_what_a_backdated_grant_pays_reads_as_paid(books: Books) -> None:
    """Two windows were uncovered when a grant that holds from before came to be known."""
    records = [*catalog_records(), *customer_records(0)]
    catalog = Catalog()
    for entry_id, record in enumerate(records, 1):
        catalog.apply(entry_id, record)
    group = KeyGroup(key_group("customer-0"), catalog, TimeRules())
    out = Outcome()
    for hour in range(2):
        at = (START + hour * HOUR).isoformat()
        event = {"specversion": "1.0", "id": f"{hour}", "source": "s", "subject": "c0", "time": at, "type": "call"}
        group.fold(line(event | {"data": {}}), START + DAY, START + DAY, out)
    group.beat(START + DAY, out)
    books.write(out)
    grant = Grant("late", "customer-0", D(25), "USD", START - DAY, START + DAY)
    catalog.apply(len(records) + 1, grant)
    for known in (*records, grant):
        if isinstance(known, PlanVersion | Customer | Subscription | Grant):
            books.record(known)
    told_again = Outcome()
    group.reconcile(["customer-0"], START + DAY, told_again)
    books.write(told_again)
    check_account(books, START + DAY)


def test_signals_are_read_newest_first(books: Books) -> None:
    """All of a customer, or those of one kind."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    for sequence, kind in enumerate(("low_balance", "access_blocked", "access_allowed"), 1):
        books.connection.execute(
            "insert into signals values (%s, 'id-of-acme', 'acme', %s, %s, '', '', 1.50, 7, %s)",
            (f"{sequence}-0", sequence, kind, MARCH),
        )
    found = signals(books.connection, "id-of-acme")
    assert [signal.kind for signal in found] == ["access_allowed", "access_blocked", "low_balance"]
    assert (found[0].live, found[0].raised_at, found[0].revision) == (D("1.50"), MARCH, 7)
    assert signals(books.connection, "acme", kind="low_balance") == found[2:]
    assert signals(books.connection, "acme", limit=1) == found[:1]


def test_parked_events_are_read_with_why_they_wait(books: Books) -> None:
    """All of them, or those of a reason or a customer."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    out = Outcome(catalog_version=3)
    out.parked += [
        Parked(ParkCode.UNKNOWN_SUBJECT, "no customer", "s", "1", "who", None, MARCH, b"{}", MARCH),
        Parked(ParkCode.PERIOD_CLOSED, "closed", "s", "2", "acme", "id-of-acme", MARCH, b'{"id": 2}', MARCH),
    ]
    books.write(out)
    assert len(parked(books.connection)) == 2
    (late,) = parked(books.connection, customer="acme")
    assert (late.reason, late.event_time, late.control_version, late.raw) == (
        "period_closed",
        MARCH,
        3,
        b'{"id": 2}',
    )
    assert [event.id for event in parked(books.connection, reason="unknown_subject")] == ["1"]
    assert len(parked(books.connection, limit=1)) == 1
    with pytest.raises(NotFound):
        parked(books.connection, customer="nobody")


def test_dead_letters_are_read_with_why_they_were_refused(books: Books) -> None:
    """All of them, or those of a reason; the bytes come as they came."""
    out = Outcome()
    out.rejected += [
        Rejected(RejectCode.MALFORMED, "not JSON", "$", b"\xff{"),
        Rejected(RejectCode.VALUE_NEGATIVE, "below 0", "$.data.tokens", b"{}"),
    ]
    books.write(out)
    assert len(dead_letters(books.connection)) == 2
    (found,) = dead_letters(books.connection, reason="malformed")
    assert (found.raw, found.path, len(found.digest)) == (b"\xff{", "$", 64)
    assert len(dead_letters(books.connection, limit=1)) == 1
