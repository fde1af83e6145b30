"""
Credits that are bought on an invoice: a line for each grant, once.

What a grant costs is agreed when it is granted, and does not depend on what becomes of it: a grant that is voided has
still been bought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal

from rating.details import Category
from rating.money import ONE, ZERO
from tollway.invoicing.model import Line, LineDetail, LineType, Totals
from tollway.ledger_reads import Connection, CustomerHead, rows

DETAIL_NAME = "credit-purchase"


def purchases(
    connection: Connection, head: CustomerHead, as_of: datetime | None, new_id: Callable[[], str]
) -> Iterator[Line]:
    """The lines of the grants that a customer is to pay for on its next invoice, the oldest first."""
    for row in rows(connection, "unbilled_purchases", {"customer_id": head.id, "as_of": as_of}):
        assert row["currency"] == head.currency, f"a purchase in {row['currency']}, expected {head.currency}"
        totals = Totals.of(row["amount"], ZERO, ZERO, ZERO)
        yield _line(row["grant_id"], row["name"], row["effective_at"], row["expires_at"], totals, row["amount"], new_id)


def _line(
    grant_id: str,
    name: str,
    effective_at: datetime,
    expires_at: datetime | None,
    totals: Totals,
    amount: Decimal,
    new_id: Callable[[], str],
) -> Line:
    return Line(
        id=new_id(),
        type=LineType.FLAT_FEE,
        subscription_id=None,
        card_key=None,
        feature_key=None,
        grant_id=grant_id,
        name=name or "Credits",
        period_start=effective_at,
        period_end=expires_at or effective_at,
        quantity=ONE,
        metered_quantity=ZERO,
        rate_card={"price": {"type": "flat", "amount": f"{amount:f}", "paymentTerm": "in_advance"}, "discounts": None},
        totals=totals,
        usage_after=ZERO,
        credits_after=ZERO,
        closed=True,
        charged=ZERO,
        credited=ZERO,
        children=(
            LineDetail(
                id=new_id(),
                name=DETAIL_NAME,
                category=Category.REGULAR,
                per_unit_amount=amount,
                is_flat=True,
                quantity=ONE,
                totals=totals,
            ),
        ),
    )
