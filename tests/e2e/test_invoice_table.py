"""The table of an invoice: what explains its totals is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rating.details import Category
from rating.money import ZERO
from tollway.commands.tables import print_invoice
from tollway.invoicing import Line, Totals
from tollway.invoicing.model import LineDetail, LineType

D = Decimal
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)


def detail(quantity: int, price: str, amount: str, credits: str) -> LineDetail:
    totals = Totals.of(D(amount), ZERO, ZERO, D(credits))
    return LineDetail(
        id=price,
        name="unit",
        category=Category.REGULAR,
        per_unit_amount=D(price),
        is_flat=False,
        quantity=D(quantity),
        totals=totals,
    )


def line_of(*details: LineDetail) -> Line:
    """A line for usage in March."""
    return Line(
        id="l",
        type=LineType.USAGE_BASED,
        subscription_id="s",
        card_key="a",
        feature_key="a",
        name="calls",
        period_start=MARCH,
        period_end=APRIL,
        quantity=sum((one.quantity for one in details), ZERO),
        metered_quantity=ZERO,
        rate_card={},
        totals=Totals.sum(one.totals for one in details),
        usage_after=ZERO,
        credits_after=ZERO,
        closed=False,
        charged=ZERO,
        credited=ZERO,
        children=details,
    )


def test_a_difference_shows_what_credits_paid_of_each_of_its_details(capsys: pytest.CaptureFixture[str]) -> None:
    """What is given back had been paid by credits: without them its total is no sum of what stands beside it."""
    print_invoice("", "USD", [line_of(detail(100, "0.02", "2.00", "1.00"), detail(-100, "0.01", "-1.00", "-1.00"))])
    _, dearer, given_back, _ = (row.split() for row in capsys.readouterr().out.splitlines() if "." in row)
    assert (dearer[-6:], given_back[-6:]) == (
        ["0.02", "2.00", "0.00", "0.00", "1.00", "1.00"],
        ["0.01", "-1.00", "0.00", "0.00", "-1.00", "0.00"],
    )
    print_invoice("", "USD", [line_of(detail(100, "0.02", "2.00", "1.00"))])
    _, alone, _ = (row.split() for row in capsys.readouterr().out.splitlines() if "." in row)
    assert alone[-2:] != ["1.00", "1.00"]
