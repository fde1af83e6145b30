"""Invoices that a finance person can check, drawn up from the ledger of a real database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from rating.catalog import SettlementMode
from rating.money import round_minor
from sinks.postgres.migrate import MIGRATIONS
from tests.invoicing.books import (
    APRIL,
    MARCH,
    MAY,
    Books,
    adds_up,
    children,
    pricing,
    shown,
    tiered,
    unit,
)
from tollway.invoicing import (
    Invoice,
    InvoiceStatus,
    LedgerIncomplete,
    LineType,
    NothingBillable,
    draw_up,
    gathering,
    gatherings,
    invoice,
    invoices,
    void,
)
from tollway.ledger_reads import NotFound

D = Decimal
FLAT = {"type": "flat", "amount": "99.99"}
ARREARS = FLAT | {"paymentTerm": "in_arrears"}
TWO_TIERS = tiered("graduated", ("1000", "0.01", None), (None, "0.005", "2"))
VOLUME = tiered("volume", ("100", "0.1", None), (None, "0.05", None))
PACKAGE = {"type": "package", "amount": "0.5", "quantityPerPackage": "10"}
THIRD = unit("0.003333333333333333333333333333")


def the_line(found: Invoice) -> list[str]:
    """What the only line of an invoice has: its quantity and totals, then its children."""
    assert adds_up(found)
    (line,) = found.lines
    return [f"{line.quantity.normalize():f}: {shown(line.totals)}", *children(line)]


@pytest.mark.parametrize(
    ("price", "currency", "discounts", "usage", "closed", "expected"),
    [
        pytest.param(
            TWO_TIERS,
            "USD",
            {},
            "1500",
            False,
            [
                "1500: 14.5 = 14.5",
                "graduated-tiered-1-price-usage: 1000 x 0.01: 10 = 10",
                "graduated-tiered-2-flat-price: 1 x 2: 2 = 2",
                "graduated-tiered-2-price-usage: 500 x 0.005: 2.5 = 2.5",
            ],
            id="graduated, two tiers",
        ),
        pytest.param(PACKAGE, "USD", {}, "21", False, ["21: 1.5 = 1.5", "usage: 3 x 0.5: 1.5 = 1.5"], id="package"),
        pytest.param(
            VOLUME,
            "USD",
            {},
            "150",
            False,
            ["150: 7.5 = 7.5", "volume-tiered-price: 150 x 0.05: 7.5 = 7.5"],
            id="volume",
        ),
        pytest.param(
            FLAT,
            "USD",
            {},
            "0",
            False,
            ["1: 99.99 = 99.99", "flat-price: 1 x 99.99: 99.99 = 99.99"],
            id="flat",
        ),
        pytest.param(
            ARREARS,
            "USD",
            {},
            "0",
            False,
            ["1: 99.99 = 99.99", "flat-price: 1 x 99.99: 99.99 = 99.99"],
            id="arrears",
        ),
        pytest.param(
            unit("0.1", minimumAmount="50"),
            "USD",
            {},
            "100",
            False,
            ["100: 10 = 10", "unit-price-usage: 100 x 0.1: 10 = 10"],
            id="no minimum while the period runs",
        ),
        pytest.param(
            unit("0.1", minimumAmount="50"),
            "USD",
            {},
            "100",
            True,
            ["100: 10 + 40 = 50", "unit-price-usage: 100 x 0.1: 10 = 10", "min-spend: 1 x 40: 0 + 40 = 40"],
            id="the minimum when it closes",
        ),
        pytest.param(
            unit("0.1", maximumAmount="5"),
            "USD",
            {},
            "100",
            False,
            ["100: 10 - 5 = 5", "unit-price-usage: 100 x 0.1: 10 - 5 = 5"],
            id="maximum",
        ),
        pytest.param(
            unit("0.1"),
            "USD",
            {"usage": "30"},
            "100",
            False,
            ["70: 7 = 7", "unit-price-usage: 70 x 0.1: 7 = 7"],
            id="free units",
        ),
        pytest.param(
            unit("0.1"),
            "USD",
            {"percentage": "15"},
            "99",
            False,
            ["99: 9.9 - 1.49 = 8.41", "unit-price-usage: 99 x 0.1: 9.9 - 1.49 = 8.41"],
            id="percentage",
        ),
        pytest.param(
            unit("0.15"),
            "JPY",
            {},
            "103",
            False,
            ["103: 15 = 15", "unit-price-usage: 103 x 0.15: 15 = 15"],
            id="yen have no smaller part",
        ),
    ],
)
def test_an_invoice_shows_what_each_price_comes_to(
    books: Books,
    price: dict[str, Any],
    currency: str,
    discounts: dict[str, str],
    usage: str,
    closed: bool,
    expected: list[str],
) -> None:
    """One line per rate card and period, one child per part of the price that was used."""
    books.customer("acme", {"calls": pricing(price, currency, **discounts)})
    books.used("acme", "calls", usage, closed=closed)
    assert the_line(gathering(books.connection, "acme")) == expected
    assert the_line(draw_up(books.connection, "acme")) == expected


@pytest.mark.parametrize(
    ("mode", "credits", "expected"),
    [
        ("credit_then_invoice", "0", "14.5 = 14.5"),
        ("credit_then_invoice", "11.251", "14.5 cr 11.25 = 3.25"),
        ("credit_then_invoice", "14.4999", "14.5 cr 14.5 = 0"),
        ("credit_then_invoice", "14.5", "14.5 cr 14.5 = 0"),
        ("credit_only", "14.5", "14.5 cr 14.5 = 0"),
        ("credit_only", "4", "14.5 cr 4 over 10.5 = 0"),
        ("credit_only", "0", "14.5 over 14.5 = 0"),
    ],
)
def test_credits_leave_what_they_did_not_cover(books: Books, mode: str, credits: str, expected: str) -> None:
    """To the minor unit; under `credit_only` nothing is left, for the next grant repays it."""
    books.customer("acme", {"calls": pricing(TWO_TIERS)}, SettlementMode(mode))
    books.used("acme", "calls", "1500", credits)
    found = draw_up(books.connection, "acme")
    assert shown(found.totals) == expected
    assert adds_up(found)


def test_credits_cover_the_children_in_their_order(books: Books) -> None:
    """The first tier is paid before the second."""
    books.customer("acme", {"calls": pricing(TWO_TIERS)})
    books.used("acme", "calls", "1500", "11.25")
    assert the_line(draw_up(books.connection, "acme"))[1:] == [
        "graduated-tiered-1-price-usage: 1000 x 0.01: 10 cr 10 = 0",
        "graduated-tiered-2-flat-price: 1 x 2: 2 cr 1.25 = 0.75",
        "graduated-tiered-2-price-usage: 500 x 0.005: 2.5 = 2.5",
    ]


def test_three_thirds_of_a_cent_are_one_cent(books: Books) -> None:
    """What earlier invoices rounded is made up for: a third each is 0, 0.01, 0, and not three times 0."""
    books.customer("acme", {"calls": pricing(THIRD)})
    totals = []
    for usage in ("1", "2", "3"):
        books.used("acme", "calls", usage)
        totals.append(draw_up(books.connection, "acme").totals.total)
    assert totals == [D("0.00"), D("0.01"), D("0.00")]


def test_credits_are_rounded_over_all_invoices_of_a_period(books: Books) -> None:
    """Three times 0.334 of which credits pay 0.167 is 0.17, 0.16 and 0.17 of credits, together the 0.50 consumed."""
    books.customer("acme", {"calls": pricing(unit("0.334"))})
    totals = []
    for usage, credits in (("1", "0.167"), ("2", "0.334"), ("3", "0.501")):
        books.used("acme", "calls", usage, credits)
        totals.append(shown(draw_up(books.connection, "acme").totals))
    assert totals == ["0.33 cr 0.17 = 0.16", "0.34 cr 0.16 = 0.18", "0.33 cr 0.17 = 0.16"]


def test_a_lower_volume_tier_takes_back_what_was_billed(books: Books) -> None:
    """100 units at 0.10 were invoiced; with one more, all 101 cost 0.05, and the invoice gives back."""
    books.customer("acme", {"calls": pricing(VOLUME)})
    books.used("acme", "calls", "100")
    draw_up(books.connection, "acme")
    books.used("acme", "calls", "101")
    assert the_line(draw_up(books.connection, "acme")) == [
        "1: -4.95 = -4.95",
        "volume-tiered-price: 101 x 0.05: 5.05 = 5.05",
        "volume-tiered-price: -100 x 0.1: -10 = -10",
    ]


def test_credits_that_paid_a_dearer_tier_come_back_with_it(books: Books) -> None:
    """What was given back had been paid by credits, so there is no money to return."""
    books.customer("acme", {"calls": pricing(VOLUME)})
    books.used("acme", "calls", "100", "10")
    draw_up(books.connection, "acme")
    books.used("acme", "calls", "101", "5.05")
    found = draw_up(books.connection, "acme")
    assert shown(found.totals) == "-4.95 cr -4.95 = 0"
    assert all(not child.totals.total for line in found.lines for child in line.children)


def test_late_usage_of_an_invoiced_period_comes_as_the_difference(books: Books) -> None:
    """It is billed at its own period's tiers, beside the usage of the period that runs."""
    books.customer("acme", {"calls": pricing(TWO_TIERS)})
    books.used("acme", "calls", "900", closed=True)
    draw_up(books.connection, "acme")
    books.used("acme", "calls", "1100", closed=True)
    books.used("acme", "calls", "10", start=APRIL)
    found = draw_up(books.connection, "acme")
    assert [(line.period_start, shown(line.totals)) for line in found.lines] == [
        (MARCH, "3.5 = 3.5"),
        (APRIL, "0.1 = 0.1"),
    ]
    assert (found.period_start, found.period_end) == (MARCH, MAY)


def test_a_minimum_is_billed_once_and_shrinks_with_late_usage(books: Books) -> None:
    """Whatever is billed when, the period comes to its minimum."""
    books.customer("acme", {"calls": pricing(unit("1", minimumAmount="50"))})
    books.used("acme", "calls", "10")
    billed = [shown(draw_up(books.connection, "acme").totals)]
    books.used("acme", "calls", "10", closed=True)
    billed.append(shown(draw_up(books.connection, "acme").totals))
    books.used("acme", "calls", "15", closed=True)
    billed.append(shown(draw_up(books.connection, "acme").totals))
    assert billed == ["10 = 10", "0 + 40 = 40", "5 + -5 = 0"]


def test_a_fee_whose_period_is_cut_short_gives_back_the_rest(books: Books) -> None:
    """31.00 in advance for March; the subscription ends on the 11th, so 10 days of 31 remain."""
    fee = {"type": "flat", "amount": "31"}
    books.customer("acme", {"base": pricing(fee)}, prorate=True, fees=("base",))
    books.used("acme", "base", "0", fee=True)
    first = draw_up(books.connection, "acme")
    assert (first.lines[0].type, first.lines[0].feature_key) == (LineType.FLAT_FEE, None)
    books.used("acme", "base", "0", end=datetime(2026, 3, 11, tzinfo=UTC), fee=True)
    assert the_line(draw_up(books.connection, "acme")) == [
        "0: -21 = -21",
        "flat-price: 1 x 10: 10 = 10",
        "flat-price: -1 x 31: -31 = -31",
    ]


def test_an_invoice_has_a_line_for_each_rate_card_and_period(books: Books) -> None:
    """In order of the periods, then of the cards."""
    books.customer("acme", {"calls": pricing(unit("1")), "base": pricing(FLAT)}, fees=("base",))
    for card, start in (("calls", MARCH), ("calls", APRIL), ("base", APRIL), ("base", MARCH)):
        books.used("acme", card, "2", start=start, fee=card == "base")
    found = draw_up(books.connection, "acme")
    assert [(line.card_key, line.period_start, shown(line.totals)) for line in found.lines] == [
        ("base", MARCH, "99.99 = 99.99"),
        ("calls", MARCH, "2 = 2"),
        ("base", APRIL, "99.99 = 99.99"),
        ("calls", APRIL, "2 = 2"),
    ]
    assert shown(found.totals) == "203.98 = 203.98"


def test_periods_that_began_later_are_left_for_another_invoice(books: Books) -> None:
    """As of the first of April, March is billed and April is not."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "2")
    books.used("acme", "calls", "3", start=APRIL)
    assert draw_up(books.connection, "acme", APRIL).totals.total == 2
    assert gathering(books.connection, "acme", APRIL).lines == ()
    assert gathering(books.connection, "acme").totals.total == 3


def test_usage_that_credits_cover_is_invoiced_at_zero(books: Books) -> None:
    """There is something to show, so there is an invoice."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "2", "2")
    found = draw_up(books.connection, "acme")
    assert shown(found.totals) == "2 cr 2 = 0"


def test_credits_granted_for_usage_that_was_invoiced_are_paid_back(books: Books) -> None:
    """A grant that holds from before pays what an invoice has billed; the next one says so."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "2")
    draw_up(books.connection, "acme")
    books.used("acme", "calls", "2", "2")
    assert the_line(draw_up(books.connection, "acme")) == [
        "0: 0 cr 2 = -2",
        "unit-price-usage: 0 x 1: 0 cr 2 = -2",
    ]


def test_a_repaid_overage_turns_into_credits_on_the_next_invoice(books: Books) -> None:
    """Under `credit_only` there is nothing to pay either way; together the two say what credits paid."""
    books.customer("acme", {"calls": pricing(unit("1"))}, SettlementMode.CREDIT_ONLY)
    books.used("acme", "calls", "5", "2")
    draw_up(books.connection, "acme")
    books.used("acme", "calls", "5", "5")
    assert the_line(draw_up(books.connection, "acme")) == [
        "0: 0 cr 3 over -3 = 0",
        "unit-price-usage: 0 x 1: 0 cr 3 over -3 = 0",
    ]
    with pytest.raises(NothingBillable):
        draw_up(books.connection, "acme")


def test_invoices_of_before_overage_had_a_figure_are_brought_up_to_date(books: Books) -> None:
    """What was shown as credits, and no credit had covered, becomes overage, details included."""
    books.customer("acme", {"calls": pricing(TWO_TIERS)}, SettlementMode.CREDIT_ONLY)
    books.customer("other", {"calls": pricing(TWO_TIERS)})
    for key in ("acme", "other"):
        books.used(key, "calls", "1500", "11.251")
    drawn = [draw_up(books.connection, key) for key in ("acme", "other")]
    for table in ("invoices", "invoice_lines"):
        books.connection.execute(f"update {table} set credits = credits + overage".encode())
        books.connection.execute(f"alter table {table} drop column overage".encode())
    books.connection.execute((MIGRATIONS / "0013_overage.sql").read_bytes())
    assert [invoice(books.connection, found.id) for found in drawn] == drawn
    assert shown(drawn[0].totals) == "14.5 cr 11.25 over 3.25 = 0"


NINE = [f"f{number}" for number in range(9)]


def use_nine(books: Books, paid: list[str], amount: str = "1.005") -> Invoice:
    """The invoice of nine features of the same amount, the first of which credits paid."""
    books.customer("acme", {name: pricing(unit(amount)) for name in NINE})
    for name, credits in zip(NINE, [*paid, *["0"] * 9], strict=False):
        books.used("acme", name, "1", credits)
    found = draw_up(books.connection, "acme")
    assert adds_up(found)
    return found


def test_credits_are_rounded_once_for_all_lines(books: Books) -> None:
    """5.03 pays five times 1.005 and 0.005 of the sixth; line by line that would be 5.06."""
    found = use_nine(books, [*["1.005"] * 5, "0.005"])
    assert [shown(line.totals) for line in found.lines] == [
        *["1.01 cr 1.01 = 0"] * 3,
        *["1.01 - 0.01 cr 1 = 0"] * 2,
        *["1.01 = 1.01"] * 4,
    ]
    assert shown(found.totals) == "9.09 - 0.02 cr 5.03 = 4.04"


def test_an_invoice_that_credits_cover_comes_to_nothing(books: Books) -> None:
    """9.045 paid all; the four cents that only rounding added are a discount."""
    assert shown(use_nine(books, ["1.005"] * 9).totals) == "9.09 - 0.04 cr 9.05 = 0"


def test_credits_that_find_no_place_wait_for_the_next_invoice(books: Books) -> None:
    """Nine times 0.004 is nothing on an invoice, and 0.036 of credits; later usage has room for them."""
    assert shown(use_nine(books, ["0.004"] * 9, "0.004").totals) == "0 = 0"
    books.used("acme", "f0", "6", "0.024")
    assert shown(draw_up(books.connection, "acme").totals) == "0.02 cr 0.02 = 0"
    books.used("acme", "f1", "25", "0.1")
    assert shown(draw_up(books.connection, "acme").totals) == "0.1 cr 0.1 = 0"
    books.used("acme", "f1", "50", "0.1")
    assert shown(draw_up(books.connection, "acme").totals) == "0.1 cr 0.03 = 0.07"


def test_what_a_voided_invoice_showed_of_credits_is_shown_again(books: Books) -> None:
    """Also where the cents were spread over other lines."""
    found = use_nine(books, [*["1.005"] * 5, "0.005"])
    void(books.connection, found.id)
    books.used("acme", "f0", "2", "1.005")
    assert draw_up(books.connection, "acme").totals.credits_total == found.totals.credits_total


@pytest.mark.parametrize("percentage", ["100", "100.00"])
def test_a_fee_that_a_discount_takes_off_is_a_line_of_nothing(books: Books, percentage: str) -> None:
    """With its amount and its discount, once."""
    books.customer("acme", {"base": pricing(FLAT, percentage=percentage)}, fees=("base",))
    books.used("acme", "base", "0", fee=True)
    assert [found.customer.key for found in gatherings(books.connection, ())[0]] == ["acme"]
    assert the_line(draw_up(books.connection, "acme")) == [
        "1: 99.99 - 99.99 = 0",
        "flat-price: 1 x 99.99: 99.99 - 99.99 = 0",
    ]
    assert gatherings(books.connection, ()) == ([], 0)
    with pytest.raises(NothingBillable):
        draw_up(books.connection, "acme")


def test_usage_within_the_free_units_is_nothing_to_bill_but_is_shown(books: Books) -> None:
    """The gathering invoice has the line, with what was metered."""
    books.customer("acme", {"calls": pricing(unit("1"), usage="100")})
    books.used("acme", "calls", "60")
    (line,) = gathering(books.connection, "acme").lines
    assert not line.children
    assert (line.metered_quantity, line.quantity) == (D(60), D(0))
    with pytest.raises(NothingBillable):
        draw_up(books.connection, "acme")
    books.used("acme", "calls", "110")
    (line,) = draw_up(books.connection, "acme").lines
    assert (line.metered_quantity, line.quantity, line.totals.total) == (D(110), D(10), D(10))


def test_nothing_billable_is_an_error_with_a_code(books: Books) -> None:
    """A customer who used nothing, and one whose usage is invoiced, get no invoice and cost no number."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    with pytest.raises(NothingBillable, match="nothing is billable for customer `acme`\nhint: ") as caught:
        draw_up(books.connection, "acme")
    assert caught.value.code == "invoice_create_no_lines"
    books.used("acme", "calls", "1")
    first = draw_up(books.connection, "acme")
    with pytest.raises(NothingBillable):
        draw_up(books.connection, "acme")
    books.used("acme", "calls", "2")
    second = draw_up(books.connection, "acme")
    assert [number.number[-7:] for number in (first, second)] == ["-000001", "-000002"]


def test_the_gathering_invoice_is_empty_after_drawing_up(books: Books) -> None:
    """It shows what is not billed yet, and nothing is stored of it."""
    customer_id = books.customer("acme", {"calls": pricing(unit("1"))})
    empty = gathering(books.connection, "acme")
    assert not empty.lines
    assert (empty.totals.total, empty.period_start, empty.currency) == (D(0), None, "USD")
    books.used("acme", "calls", "1")
    before = gathering(books.connection, "acme")
    assert (before.status, before.totals.total, before.issued_at) == (InvoiceStatus.GATHERING, D(1), None)
    assert invoice(books.connection, before.id).lines == before.lines
    assert invoices(books.connection, customer_id) == []
    draw_up(books.connection, "acme")
    assert gathering(books.connection, "acme").lines == ()


def test_an_invoice_is_read_as_it_was_drawn_up(books: Books) -> None:
    """By id, by number and in the list of its customer."""
    books.customer("acme", {"calls": pricing(TWO_TIERS, percentage="10"), "base": pricing(FLAT)}, fees=("base",))
    books.customer("other", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "1500", "3")
    books.used("acme", "base", "0", fee=True)
    books.used("other", "calls", "1")
    first = draw_up(books.connection, "acme", MAY)
    assert first.number == f"INV-{first.issued_at:%Y}-000001"
    assert (first.as_of, first.customer.key, first.customer.name) == (MAY, "acme", "Acme")
    books.used("acme", "calls", "1600", "3")
    second = draw_up(books.connection, "id-of-acme")
    other = draw_up(books.connection, "other")
    assert invoice(books.connection, first.id) == first
    assert invoice(books.connection, second.number) == second
    assert invoices(books.connection, "acme") == [second, first]
    assert invoices(books.connection) == [other, second, first]
    assert invoices(books.connection, limit=1, offset=1) == [second]


def test_what_a_voided_invoice_billed_is_billed_again(books: Books) -> None:
    """Also by the one after next: each period comes to its usage, whichever invoice is voided."""
    books.customer("acme", {"calls": pricing(TWO_TIERS)})
    drawn = []
    for usage in ("500", "1200", "1300"):
        books.used("acme", "calls", usage)
        drawn.append(draw_up(books.connection, "acme"))
    voided = void(books.connection, drawn[1].number)
    assert (voided.status, voided.lines) == (InvoiceStatus.VOIDED, drawn[1].lines)
    assert voided.voided_at is not None
    assert void(books.connection, drawn[1].id) == voided
    again = draw_up(books.connection, "acme")
    assert (again.totals, children(again.lines[0])) == (drawn[1].totals, children(drawn[1].lines[0]))
    with pytest.raises(NothingBillable):
        draw_up(books.connection, "acme")
    assert invoices(books.connection, "acme", status=InvoiceStatus.VOIDED) == [voided]


@pytest.mark.parametrize("name", ["nobody", "", "nul\0", "id-of-"])
def test_what_is_not_there_is_not_found(books: Books, name: str) -> None:
    """Unknown customers and invoices are named, with a hint."""
    for read in (gathering, draw_up, invoices):
        with pytest.raises(NotFound, match=r"there is no customer `.*\nhint: "):
            read(books.connection, name)
    for read_one in (invoice, void):
        with pytest.raises(NotFound, match=r"there is no invoice `.*\nhint: "):
            read_one(books.connection, name)


def test_a_ledger_that_disagrees_with_the_price_stops_the_invoice(books: Books) -> None:
    """Better no invoice than a wrong one."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "2")
    books.connection.execute("update charges set amount = 3, uncovered = 3")
    books.connection.execute("update balances set charged = 3, uncovered = 3")
    with pytest.raises(AssertionError, match="rate card `calls` comes to 2, but the ledger has 3"):
        draw_up(books.connection, "acme")
    assert invoices(books.connection) == []


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("delete from charges where window_start >= '2026-04-01'", "that 2 was charged, its balance says 5"),
        ("update charges set credits = 0, uncovered = 2", "that 0 was consumed, its balance says 1"),
        ("delete from balances", "that 5 was charged, its balance says nothing"),
    ],
)
def test_a_ledger_that_lacks_rows_stops_the_invoice(books: Books, lost: str, message: str) -> None:
    """After a crash, until the dataflow has told its rows again, some of the charges are missing."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "2", "1")
    books.used("acme", "calls", "3", start=APRIL)
    books.connection.execute(lost.encode())
    for read in (gathering, draw_up):
        with pytest.raises(LedgerIncomplete, match=f"{message}\nhint: start the dataflow"):
            read(books.connection, "acme")


def test_a_transaction_that_would_not_see_other_invoices_is_refused(books: Books) -> None:
    """At a higher isolation level, what was billed while it queued would be billed again."""
    books.customer("acme", {"calls": pricing(unit("1"))})
    books.used("acme", "calls", "2")
    with psycopg.connect(books.dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(AssertionError, match="read committed"):
            draw_up(connection, "acme")


def test_stored_amounts_are_whole_minor_units(books: Books) -> None:
    """What is in the tables is what is on paper."""
    books.customer("acme", {"calls": pricing(unit("0.0033"), percentage="12.5")})
    books.used("acme", "calls", "777", "0.123")
    draw_up(books.connection, "acme")
    found = books.connection.execute(
        "select amount, discounts, charges, credits, total from invoice_lines "
        "union all select amount, discounts, charges, credits, total from invoices"
    ).fetchall()
    assert len(found) == 3
    assert all(amount == round_minor(amount, "USD") for row in found for amount in row)
