"""Laws of invoicing: progressive invoices, concurrent ones, and the whole way from events to the invoice."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from threading import Barrier
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rating.catalog import Customer, Grant, PlanVersion, SettlementMode, Subscription, key_group
from rating.charge import billable_quantity, commitment, total
from rating.group import KeyGroup
from rating.money import ZERO, plain, round_minor, use_exact
from rating.outcome import Outcome
from rating.prices import Price, Pricing
from rating.time_rules import TimeRules
from tests import oracle
from tests.invoicing.books import Books, adds_up, pricing, tiered, unit
from tests.rating.strategies import discounts, quantities, usage_prices
from tests.repeats import repeats
from tests.world import (
    FEATURES,
    PRICES,
    START,
    catalog_of,
    catalog_records,
    customer_by_subject,
    customer_records,
    events,
    line,
)
from tollway.invoicing import (
    Invoice,
    NothingBillable,
    Totals,
    approve,
    delete,
    draft,
    draw_up,
    gathering,
    invoices,
    void,
)
from tollway.ledger_reads import charges

D = Decimal
THREADS = 10
_customers = count(1)

one_database = settings(
    max_examples=repeats(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def drawn(books: Books, key: str) -> list[Invoice]:
    """The next invoice of a customer, if there is one."""
    try:
        return [draw_up(books.connection, key)]
    except NothingBillable:
        return []


def quantities_of(*found: Invoice) -> tuple[Decimal, Decimal]:
    """What is on invoices together: the quantity as the price sees it, and as it was metered."""
    lines = [line for invoice in found for line in invoice.lines]
    return sum((line.quantity for line in lines), ZERO), sum((line.metered_quantity for line in lines), ZERO)


@one_database
@given(
    price=st.builds(Pricing, usage_prices, st.sampled_from(["USD", "JPY"]), st.none(), discounts),
    cuts=st.lists(quantities, min_size=1, max_size=4),
    mode=st.sampled_from(SettlementMode),
    covered=st.integers(0, 4),
    voids=st.sets(st.integers(0, 3)),
)
def test_progressive_invoices_add_up_to_the_invoice_drawn_up_once(
    books: Books, price: Pricing, cuts: list[Decimal], mode: SettlementMode, covered: int, voids: set[int]
) -> None:
    """However a period is cut, and whichever invoices are voided, those that stand say what one would."""
    use_exact()
    parts, whole = (f"c{next(_customers)}" for _ in range(2))
    for key in (parts, whole):
        books.customer(key, {"calls": price}, mode)
    found: list[Invoice] = []
    for number, usage in enumerate(cuts):
        closed = number == len(cuts) - 1
        owed = total(price, usage) + (commitment(price, usage) if closed else ZERO)
        credits = plain(owed * covered * D("0.25"))
        books.used(parts, "calls", usage, credits, closed)
        for invoice in drawn(books, parts):
            assert adds_up(invoice)
            if number in voids:
                void(books.connection, invoice.id)
            else:
                found.append(invoice)
    found += drawn(books, parts)
    books.used(whole, "calls", cuts[-1], credits, closed=True)
    once = drawn(books, whole)
    assert Totals.sum(i.totals for i in found) == Totals.sum(i.totals for i in once)
    # What is left changes no detail, as usage within a package that was begun.
    left = gathering(books.connection, parts)
    assert not any(line.children for line in left.lines)
    once_left = gathering(books.connection, whole)
    assert quantities_of(*found, left) == quantities_of(*once, once_left) == (billable_quantity(price, usage), usage)


@one_database
@given(
    price=st.builds(Pricing, usage_prices, st.sampled_from(["USD", "JPY"]), st.none(), discounts),
    usage=quantities,
    quarters=st.integers(0, 4),
)
def test_an_invoice_asks_for_what_credits_leave_and_no_more(
    books: Books, price: Pricing, usage: Decimal, quarters: int
) -> None:
    """What credits paid is rounded and taken off, and what they paid in full is not to be paid."""
    use_exact()
    key = f"c{next(_customers)}"
    books.customer(key, {"calls": price})
    owed = total(price, usage) + commitment(price, usage)
    credits = owed * quarters * D("0.25")
    books.used(key, "calls", usage, plain(credits), closed=True)
    for invoice in drawn(books, key):
        totals = invoice.totals
        net = totals.amount + totals.charges_total - totals.discounts_total
        assert totals.credits_total == min(round_minor(credits, price.currency), net)
        assert totals.total == net - totals.credits_total
        assert credits != owed or totals.total == 0 or not credits


steps = st.lists(
    st.fixed_dictionaries(
        {
            "usages": st.tuples(quantities, quantities, quantities),
            "eighths": st.tuples(*[st.integers(0, 8)] * 3),
            "then": st.sampled_from(["keep", "void", "discard", "delete", "wait"]),
        }
    ),
    min_size=1,
    max_size=4,
)


@one_database
@given(
    price=st.tuples(usage_prices, usage_prices, usage_prices),
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
    mode=st.sampled_from(SettlementMode),
    found=steps,
)
def test_credits_on_invoices_add_up_to_what_was_consumed(
    books: Books, price: tuple[Price, Price, Price], currency: str, mode: SettlementMode, found: list[Any]
) -> None:
    """
    However usage and credits come and go, and whichever invoices are taken back.

    What the invoices that stand show of credits is what was consumed, rounded once; less only where no line that
    credits paid has room. What credits paid in full is never to be paid, and under `credit_only` nothing is.
    """
    use_exact()
    key = f"c{next(_customers)}"
    cards = dict(zip(("calls", "tokens", "seats"), (Pricing(one, currency) for one in price), strict=True))
    books.customer(key, cards, mode)
    standing: list[Invoice] = []
    ever_consumed = ZERO
    for step in found:
        paid: dict[str, tuple[Decimal, Decimal]] = {}
        for (name, card), usage, eighths in zip(cards.items(), step["usages"], step["eighths"], strict=True):
            owed = total(card, usage)
            credits = owed * eighths * D("0.125")
            paid[name] = credits, owed - credits
            books.used(key, name, usage, plain(credits))
        consumed = round_minor(sum((credits for credits, _ in paid.values()), ZERO), currency)
        ever_consumed = max(ever_consumed, consumed)
        stands = taken(books, key, step["then"])
        standing += stands
        shown = Totals.sum(invoice.totals for invoice in standing)
        assert shown.credits_total <= ever_consumed
        assert mode is not SettlementMode.CREDIT_ONLY or not shown.total
        for name in {one.card_key or "" for invoice in stands for one in invoice.lines}:
            of_card = Totals.sum(one.totals for invoice in standing for one in invoice.lines if one.card_key == name)
            credits, uncovered = paid[name]
            left = of_card.overage_total if mode is SettlementMode.CREDIT_ONLY else of_card.total
            assert left >= 0
            assert not left or round_minor(uncovered, currency) or not credits
            net = of_card.amount + of_card.charges_total - of_card.discounts_total
            assert 0 <= of_card.credits_total <= net
            assert of_card.credits_total == 0 or credits
            # A line that has room for more has got all that there was.
            assert shown.credits_total >= consumed or of_card.credits_total == net or not credits


def taken(books: Books, key: str, then: str) -> list[Invoice]:
    """The next invoice, if there is one and it stands after what is done with it then."""
    if then == "wait":
        return []
    try:
        found = draft(books.connection, key)
    except NothingBillable:
        return []
    assert adds_up(found)
    match then:
        case "delete":
            delete(books.connection, found.id)
            return []
        case "void":
            void(books.connection, approve(books.connection, found.id).id)
            return []
        case "discard":
            return [void(books.connection, found.id, discard=True)]
    return [approve(books.connection, found.id)]


def test_invoices_drawn_up_at_once_bill_each_unit_once(books: Books) -> None:
    """Ten threads draw up for one customer while its usage grows, and its usage is billed to the unit."""
    books.customer("acme", {"calls": pricing(unit("0.25")), "tokens": pricing(tiered("graduated", (None, "1", None)))})
    books.customer("other", {"calls": pricing(unit("1"))})
    rounds, together = 5, Barrier(THREADS)
    usages = [str(10 * number) for number in range(1, rounds + 1)]

    def draw(thread: int) -> int:
        billed = 0
        with psycopg.connect(books.dsn, autocommit=thread % 2 == 0) as connection:
            for usage in usages:
                if together.wait() == 0:
                    books.used("acme", "calls", usage)
                    books.used("acme", "tokens", usage)
                together.wait()
                try:
                    draw_up(connection, "acme")
                    connection.commit()
                    billed += 1
                except NothingBillable:
                    connection.rollback()
        return billed

    with ThreadPoolExecutor(THREADS) as pool:
        billed = list(pool.map(draw, range(THREADS)))
    found = invoices(books.connection, "acme")
    assert sum(billed) == len(found) == rounds
    lines = [line for invoice in found for line in invoice.lines]
    assert sum(line.metered_quantity for line in lines if line.card_key == "calls") == 50
    assert sum(invoice.totals.total for invoice in found) == D("62.50")
    assert len({invoice.number for invoice in found}) == rounds


def test_a_draw_up_that_fails_leaves_nothing(books: Books) -> None:
    """An invoice comes with all its lines, or not at all, and the next one bills it."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "2")
    books.connection.execute("alter table invoice_lines add constraint broken check (parent_id is null)")
    with pytest.raises(psycopg.errors.CheckViolation):
        draw_up(books.connection, "acme")
    books.connection.execute("alter table invoice_lines drop constraint broken")
    assert invoices(books.connection) == []
    assert draw_up(books.connection, "acme").totals.total == 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", list(SettlementMode))
def test_events_are_invoiced_as_the_oracle_bills_them(books: Books, mode: SettlementMode, seed: int) -> None:
    """Rated, settled and invoiced as they come, in two periods, with late events and a grant in between."""
    chance = random.Random(seed)
    day = timedelta(days=1)
    records = [*catalog_records(mode), *customer_records(0, (D(40), D("7.5")), mode)]
    for record in records:
        if isinstance(record, PlanVersion | Customer | Subscription | Grant):
            books.record(record)
    group = KeyGroup(key_group("customer-0"), catalog_of(records), TimeRules(grace=5 * day))
    stream = list(events(chance, 400, 1, START + 25 * day, 8 * day))
    bill = oracle.rate(stream, customer_by_subject(1), FEATURES)
    chance.shuffle(stream)
    now = START + 33 * day
    found = []
    while stream:
        batch = [stream.pop() for _ in range(min(len(stream), chance.randrange(1, 60)))]
        out = Outcome()
        group.fold(b"\n".join(map(line, batch)), now, now, out)
        group.beat(now, out)
        books.write(out)
        found += drawn(books, "c0")
    assert len(found) > 1
    closing = Outcome()
    group.beat(now + 50 * day, closing)
    books.write(closing)
    found += drawn(books, "c0")

    lines = [line for invoice in found for line in invoice.lines]
    for (customer_id, feature_key, period_start), amount in bill.amounts(PRICES).items():
        of_period = [line for line in lines if (line.feature_key, line.period_start) == (feature_key, period_start)]
        usage = bill.usage[customer_id, feature_key, period_start]
        assert Fraction(sum(line.metered_quantity for line in of_period)) == usage
        billed = Fraction(Totals.sum(line.totals for line in of_period).amount)
        # Half a cent for each detail that was rounded; three tiers and a flat part are four.
        assert abs(billed - amount) <= Fraction(4, 200)
    owed = sum((round_minor(charge.uncovered, "USD") for charge in charges(books.connection, "c0")), ZERO)
    assert Totals.sum(invoice.totals for invoice in found).total == (
        ZERO if mode is SettlementMode.CREDIT_ONLY else pytest.approx(owed, abs=D("0.05"))
    )
