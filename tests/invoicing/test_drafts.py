"""Drafts: what they bill, what can be done with them, and that no history of them bills anything twice."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rating.catalog import SettlementMode
from rating.charge import billable_quantity, total
from rating.money import ZERO, plain, use_exact
from rating.prices import Pricing
from tests.conftest import Stores
from tests.e2e.command import Home
from tests.invoicing.books import APRIL, MARCH, MAY, Books, adds_up, pricing, unit
from tests.rating.strategies import discounts, quantities, usage_prices
from tests.repeats import repeats
from tollway.invoicing import (
    ActionNotAvailable,
    Choice,
    Invoice,
    InvoiceStatus,
    NothingBillable,
    Totals,
    advance,
    approve,
    chosen_invoices,
    delete,
    draft,
    draw_up,
    gathering,
    gatherings,
    invoice,
    invoices,
    void,
)
from tollway.ledger_reads import NotFound

D = Decimal
_customers = count(1)

one_database = settings(
    max_examples=repeats(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def amounts(found: list[Invoice]) -> list[Decimal]:
    """Of each invoice, what it comes to before credits."""
    return [one.totals.amount for one in found]


def test_a_draft_stays_as_it_is_while_more_usage_comes(books: Books) -> None:
    """It is fixed to what the ledger had: what comes later is on the next invoice, also while it is a draft."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "10")
    first = draft(books.connection, "acme")
    books.used("acme", "calls", "25")
    assert amounts([gathering(books.connection, "acme")]) == [15]
    second = draft(books.connection, "acme")
    assert invoice(books.connection, first.id) == first
    issued = [approve(books.connection, one.id) for one in (second, first)]
    assert amounts(issued) == [15, 10]
    assert [one.lines for one in issued] == [second.lines, first.lines]
    assert issued[0].number < issued[1].number, "a number is given when an invoice is issued"
    with pytest.raises(NothingBillable):
        draft(books.connection, "acme")


def test_an_issued_invoice_is_due_thirty_days_later(books: Books) -> None:
    """A draft has no number of its own and no due date."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "10")
    drawn = draft(books.connection, "acme")
    assert (drawn.status, drawn.number, drawn.issued_at, drawn.due_at) == ("draft", f"DRAFT-{drawn.id}", None, None)
    issued = approve(books.connection, drawn.number)
    assert issued.issued_at is not None
    assert issued.due_at == issued.issued_at + timedelta(days=30)
    assert issued.number.startswith(f"INV-{issued.issued_at.year}-")
    assert invoice(books.connection, issued.number) == issued


def test_a_draft_moves_on_once(books: Books) -> None:
    """It can be advanced once and approved once; what can't be done is refused, and changes nothing."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "10")
    drawn = draft(books.connection, "acme")
    ready = advance(books.connection, drawn.id)
    assert ready.ready_at is not None
    assert ready.status is InvoiceStatus.DRAFT
    with pytest.raises(ActionNotAvailable, match=r"cannot advance invoice `DRAFT-.*`, which is draft"):
        advance(books.connection, drawn.id)
    issued = approve(books.connection, drawn.id)
    for act in (advance, approve, delete):
        with pytest.raises(ActionNotAvailable, match="which is issued") as refused:
            act(books.connection, drawn.id)
        assert refused.value.code == "invoice_action_not_available"
    assert invoice(books.connection, drawn.id) == issued
    void(books.connection, drawn.id)
    with pytest.raises(ActionNotAvailable, match="which is voided"):
        approve(books.connection, drawn.id)


@pytest.mark.parametrize("act", [void, delete])
def test_a_draft_that_is_taken_back_is_billable_again(books: Books, act: Any) -> None:
    """Whether it is kept as voided, or goes for good."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "10")
    drawn = draft(books.connection, "acme")
    assert gathering(books.connection, "acme").lines == ()
    act(books.connection, drawn.id)
    assert amounts([draw_up(books.connection, "acme")]) == [10]
    kept = [one.status for one in invoices(books.connection, "acme")]
    assert kept == (["issued", "voided"] if act is void else ["issued"])
    if act is delete:
        with pytest.raises(NotFound):
            invoice(books.connection, drawn.id)


def test_what_is_voided_for_good_is_never_billed_again(books: Books) -> None:
    """Only what comes on top of it is."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "10")
    discarded = void(books.connection, draw_up(books.connection, "acme").id, discard=True)
    assert (discarded.status, discarded.discarded) == ("voided", True)
    with pytest.raises(NothingBillable):
        draft(books.connection, "acme")
    books.used("acme", "calls", "11")
    assert amounts([draft(books.connection, "acme")]) == [1]


def test_without_progressive_billing_a_running_period_waits(books: Books) -> None:
    """Periods that are over are billed, and fees in advance; one in arrears is due when its period is over."""
    base, after = {"type": "flat", "amount": "9"}, {"type": "flat", "amount": "5", "paymentTerm": "in_arrears"}
    books.customer("acme", {"calls": pricing(unit("1")), "base": pricing(base), "after": pricing(after)})
    books.used("acme", "calls", "10")
    books.used("acme", "calls", "7", start=APRIL)
    books.used("acme", "base", "0", start=APRIL)
    books.used("acme", "after", "0", start=APRIL)
    drawn = draft(books.connection, "acme", APRIL + timedelta(days=3), progressive=False)
    assert [(line.feature_key, line.period_start, line.totals.amount) for line in drawn.lines] == [
        ("calls", MARCH, D(10)),
        ("base", APRIL, D(9)),
    ]
    assert amounts([draft(books.connection, "acme", MAY, progressive=False)]) == [12]


def test_gathering_invoices_are_those_of_customers_with_something_to_bill(books: Books) -> None:
    """Of all customers, by their keys, in pages; a draft takes its customer off, and a void puts it on again."""
    for key in ("a", "b", "c", "idle"):
        books.customer(key, {"calls": pricing(unit("1"))})
    for key in ("a", "b", "c"):
        books.used(key, "calls", "5")

    def listed(limit: int | None = None, offset: int = 0, *names: str) -> tuple[list[str], int]:
        found, counted = gatherings(books.connection, names, limit, offset)
        assert all(one.status is InvoiceStatus.GATHERING and one.lines for one in found)
        return [one.customer.key for one in found], counted

    assert listed() == (["a", "b", "c"], 3)
    assert [listed(2, 0), listed(2, 2), listed(2, 4)] == [(["a", "b"], 3), (["c"], 3), ([], 3)]
    drawn = draft(books.connection, "b")
    assert listed() == (["a", "c"], 2)
    assert listed(10, 0, "idle", "b", "c", "id-of-c") == (["c"], 1)
    void(books.connection, drawn.id)
    assert listed() == (["a", "b", "c"], 3)
    draw_up(books.connection, "b")
    assert listed() == (["a", "c"], 2)
    books.used("b", "calls", "6", "2")
    assert listed() == (["a", "b", "c"], 3)


def test_invoices_are_found_by_what_they_have_come_to(books: Books) -> None:
    """By status, stage and instants, either way round, with how many there are."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    drawn = []
    for usage in range(1, 5):
        books.used("acme", "calls", str(usage))
        drawn.append(draft(books.connection, "acme").id)
    advance(books.connection, drawn[1])
    issued = approve(books.connection, drawn[2])
    void(books.connection, drawn[3])

    def chosen(limit: int = 10, offset: int = 0, oldest_first: bool = False, **choice: Any) -> list[int]:
        found, counted = chosen_invoices(
            books.connection, Choice(**choice), limit=limit, offset=offset, oldest_first=oldest_first
        )
        assert counted >= len(found)
        return [drawn.index(one.id) for one in found]

    assert chosen() == [3, 2, 1, 0]
    assert chosen(oldest_first=True, limit=2, offset=1) == [1, 2]
    assert chosen(statuses=[InvoiceStatus.DRAFT]) == [1, 0]
    assert chosen(statuses=[InvoiceStatus.DRAFT], awaits_approval=True) == [1]
    assert chosen(statuses=[InvoiceStatus.DRAFT], awaits_approval=False) == [0]
    assert issued.issued_at is not None
    assert chosen(issued_after=issued.issued_at) == [2]
    assert chosen(issued_before=issued.issued_at - timedelta(seconds=1)) == []
    assert chosen(created_before=invoice(books.connection, drawn[1]).created_at) == [1, 0]
    assert chosen(created_after=invoice(books.connection, drawn[1]).created_at) == [3, 2, 1]
    assert chosen(customer_ids=["nobody"]) == []


def test_an_invoice_that_is_drawn_and_issued_at_once_is_one_transaction(books: Books) -> None:
    """Where it can't be issued there is no draft either."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "10")
    books.connection.execute("alter sequence invoice_number rename to other_number")
    with pytest.raises(psycopg.errors.UndefinedTable):
        draw_up(books.connection, "acme")
    books.connection.execute("alter sequence other_number rename to invoice_number")
    assert invoices(books.connection) == []
    assert draw_up(books.connection, "acme").status is InvoiceStatus.ISSUED


def purchase(books: Books, key: str, grant_id: str, amount: str, method: str = "invoice") -> None:
    """A grant that was bought."""
    books.connection.execute(
        "insert into credit_purchases (grant_id, customer_id, funding_method, currency, cost_basis, amount,"
        " settlement_status) values (%s, %s, %s, 'USD', 1, %s, 'pending')",
        (grant_id, f"id-of-{key}", method, D(amount)),
    )


def test_credits_that_are_bought_on_an_invoice_are_on_the_next_one(books: Books) -> None:
    """Once; credits do not pay for credits, and what is paid elsewhere is on no invoice."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.grant("acme", "top-up", "100", name="Top-up")
    books.grant("acme", "wire", "50")
    purchase(books, "acme", "top-up", "80")
    purchase(books, "acme", "wire", "50", "external")
    books.used("acme", "calls", "10", "10")
    assert [one.customer.key for one in gatherings(books.connection, ())[0]] == ["acme"]
    drawn = draft(books.connection, "acme")
    assert adds_up(drawn)
    assert [(line.name, line.grant_id, line.totals.total) for line in drawn.lines] == [
        ("Calls", None, D(0)),
        ("Top-up", "top-up", D(80)),
    ]
    assert drawn.totals.total == 80
    with pytest.raises(NothingBillable):
        draft(books.connection, "acme")
    delete(books.connection, drawn.id)
    issued = draw_up(books.connection, "acme")
    assert (issued.totals.total, invoice(books.connection, issued.id)) == (D(80), issued)
    void(books.connection, issued.id, discard=True)
    with pytest.raises(NothingBillable):
        draft(books.connection, "acme")


ACTS = ("use", "draft", "draw_up", "advance", "approve", "void", "delete", "discard")


@one_database
@given(
    price=st.builds(Pricing, usage_prices, st.sampled_from(["USD", "JPY"]), st.none(), discounts),
    acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 7), quantities), max_size=14),
    mode=st.sampled_from(SettlementMode),
    quarters=st.integers(0, 4),
)
def test_no_history_of_drafts_bills_anything_twice_or_never(
    books: Books, price: Pricing, acts: list[tuple[str, int, Decimal]], mode: SettlementMode, quarters: int
) -> None:
    """
    Draw up, advance, approve, void, discard and delete in any order while usage grows: in the end the invoices that
    stand, and those that were discarded, come together to what one invoice of the whole would.
    """
    use_exact()
    parts, whole = (f"d{next(_customers)}" for _ in range(2))
    for key in (parts, whole):
        books.customer(key, {"calls": price}, mode)
    usage = ZERO
    drawn: list[str] = []
    issued: dict[str, Invoice] = {}

    def use(more: Decimal) -> None:
        nonlocal usage
        usage += more
        owed = total(price, usage)
        for key in (parts, whole):
            books.used(key, "calls", usage, plain(owed * quarters * D("0.25")))

    use(ZERO)
    for act, which, more in acts:
        reference = drawn[which % len(drawn)] if drawn else "nothing"
        try:
            match act:
                case "use":
                    use(more)
                case "draft":
                    drawn.append(draft(books.connection, parts).id)
                case "draw_up":
                    drawn.append(draw_up(books.connection, parts).id)
                case "advance":
                    advance(books.connection, reference)
                case "approve":
                    issued[reference] = approve(books.connection, reference)
                case "void" | "discard":
                    void(books.connection, reference, discard=act == "discard")
                case "delete":
                    delete(books.connection, reference)
        except (NothingBillable, ActionNotAvailable, NotFound):
            continue
    with suppress(NothingBillable):
        drawn.append(draft(books.connection, parts).id)
    kept = invoices(books.connection, parts)
    assert all(adds_up(one) for one in kept)
    # What was issued never changes, but for being voided.
    for one in kept:
        if one.id in issued:
            assert (one.lines, one.number, one.issued_at) == (
                issued[one.id].lines,
                issued[one.id].number,
                issued[one.id].issued_at,
            )
    billing = [one for one in kept if one.status is not InvoiceStatus.VOIDED or one.discarded]
    once: list[Invoice] = []
    with suppress(NothingBillable):
        once.append(draw_up(books.connection, whole))
    left = gathering(books.connection, parts)
    assert not any(line.children for line in left.lines)
    assert Totals.sum(one.totals for one in billing) == Totals.sum(one.totals for one in once)
    lines = [line for one in (*billing, left) for line in one.lines]
    assert sum((line.metered_quantity for line in lines), ZERO) == usage
    assert sum((line.quantity for line in lines), ZERO) == billable_quantity(price, usage)
    with pytest.raises(NothingBillable):
        draft(books.connection, parts)


def test_the_command_line_lists_invoices_and_what_became_of_them(books: Books, stores: Stores) -> None:
    """A voided one says whether it will be billed again."""
    home = Home(
        stores.settings.home, {"TOLLWAY_REDIS_URL": stores.redis_url, "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn}
    )
    for key, discard in (("acme", True), ("other", False), ("third", None)):
        books.customer(key, {"calls": pricing(unit("1"))})
        books.used(key, "calls", "2", "1")
        drawn = draw_up(books.connection, key)
        if discard is not None:
            void(books.connection, drawn.id, discard=discard)
    told = home.here("invoices")
    assert told.code == 0, told.err
    for said in ("voided, never billed again", "voided, billable again", "issued"):
        assert told.out.count(said) == 1, told.out
    (found,) = home.here("invoices", "acme", "--json").json
    assert (found["status"], found["discarded"], found["totals"]["credits_total"]) == ("voided", True, "1")
    assert home.here("invoices", "nobody").code == 1
