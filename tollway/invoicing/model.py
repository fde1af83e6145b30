"""What an invoice is made of. Amounts are in minor units of its currency; quantities and prices are exact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from rating.details import Category
from rating.money import ZERO
from rating.prices import Json
from rating.refusal import Refusal


class InvoiceStatus(StrEnum):
    """
    What an invoice has come to.

    `gathering` is not one yet: it shows what the next would bill. A `draft` bills it, and stays as it is while more
    usage comes; approved, it is `issued`. A draft or an issued invoice may be `voided`.
    """

    GATHERING = "gathering"
    DRAFT = "draft"
    ISSUED = "issued"
    VOIDED = "voided"


class LineType(StrEnum):
    """Whether a line is for usage, or for a fee."""

    USAGE_BASED = "usage_based"
    FLAT_FEE = "flat_fee"


class NothingBillable(Refusal):
    """
    No invoice was drawn up, since nothing came to be owed, or to be given back, since the last one.

    Attributes:
        code: OpenMeter's word for it.
    """

    code = "invoice_create_no_lines"

    def __init__(self, customer_key: str) -> None:
        hint = "look at the customer's charges: what they show is billable, unless an invoice has it already"
        super().__init__(f"nothing is billable for customer `{customer_key}`", "", hint)


class ActionNotAvailable(Refusal):
    """
    An invoice has come too far, or not far enough, for what was asked of it. Nothing was changed.

    Attributes:
        code: A word for it.
    """

    code = "invoice_action_not_available"

    def __init__(self, number: str, action: str, status: str) -> None:
        hint = "look at its `statusDetails.availableActions`"
        super().__init__(f"cannot {action} invoice `{number}`, which is {status}", "", hint)


class LedgerIncomplete(Refusal):
    """The charges of a customer are not all there, as after a crash until the dataflow has started again."""

    def __init__(self, customer_key: str, what: str, in_charges: str, in_balance: str) -> None:
        super().__init__(
            f"the ledger of customer `{customer_key}` is incomplete: "
            f"its charges say that {in_charges} was {what}, its balance says {in_balance}",
            "",
            "start the dataflow, which completes it, and try again",
        )


class Totals(Struct, frozen=True, kw_only=True):
    """``total == amount + charges_total - discounts_total - credits_total - overage_total + taxes_total``."""

    amount: Decimal
    """Quantities times prices."""
    charges_total: Decimal
    """What minimum commitments added."""
    discounts_total: Decimal
    """Percentages, what is above a maximum, and what only rounding added to what credits paid for."""
    credits_total: Decimal
    """What the ledger has as consumed, rounded over all lines of the invoices that stand."""
    overage_total: Decimal = ZERO
    """What no credit covered under `credit_only`: it is not invoiced, the next grant repays it."""
    taxes_total: Decimal = ZERO
    total: Decimal

    @staticmethod
    def of(amount: Decimal, charges: Decimal, discounts: Decimal, credits: Decimal, overage: Decimal = ZERO) -> Totals:
        """The totals of what is billed, what a minimum adds, and what is taken off."""
        return Totals(
            amount=amount,
            charges_total=charges,
            discounts_total=discounts,
            credits_total=credits,
            overage_total=overage,
            total=amount + charges - discounts - credits - overage,
        )

    @staticmethod
    def sum(parts: Iterable[Totals]) -> Totals:
        """The totals of several parts together."""
        amount = charges = discounts = credits = overage = ZERO
        for part in parts:
            amount += part.amount
            charges += part.charges_total
            discounts += part.discounts_total
            credits += part.credits_total
            overage += part.overage_total
        return Totals.of(amount, charges, discounts, credits, overage)


class LineDetail(Struct, frozen=True, kw_only=True):
    """A quantity at a price, or a flat price a number of times. What is taken back has a quantity below 0."""

    id: str
    name: str
    category: Category
    per_unit_amount: Decimal
    is_flat: bool
    """Whether `per_unit_amount` is a flat price, and `quantity` how many times it is due."""
    quantity: Decimal
    totals: Totals


class Line(Struct, frozen=True, kw_only=True):
    """
    What is billed of one rate card and billing period, with a child for each part of the price used.

    Or what a grant of credits costs: then it has a grant, and no subscription and no rate card.
    """

    id: str
    type: LineType
    subscription_id: str | None
    card_key: str | None
    feature_key: str | None
    """None: a fee of the plan itself, or a grant."""
    name: str
    period_start: datetime
    period_end: datetime
    quantity: Decimal
    """As the price sees it: converted, without the free units."""
    metered_quantity: Decimal
    rate_card: Json
    """`price`, `discounts` and `unitConfig`, as OpenMeter's v1 API writes them."""
    totals: Totals
    usage_after: Decimal
    """What the period's usage had come to when the line was drawn up; all of it is billed by then."""
    credits_after: Decimal
    """What credits had paid of the period by then, exact."""
    closed: bool
    """Whether the period had closed by then, so that its minimum is billed."""
    charged: Decimal
    """How much of what the period was charged it bills, exact."""
    credited: Decimal
    """How much of what credits paid of the period it counts, exact."""
    children: tuple[LineDetail, ...]
    grant_id: str | None = None
    """The grant that is paid for."""


class InvoiceCustomer(Struct, frozen=True):
    """Whose invoice it is."""

    id: str
    key: str
    name: str


class Invoice(Struct, frozen=True, kw_only=True):
    """An invoice, or the gathering of what the next one will bill."""

    id: str
    number: str
    status: InvoiceStatus
    customer: InvoiceCustomer
    currency: str
    totals: Totals
    period_start: datetime | None
    """The start of its first billing period. The end is that of the last. None where there are no lines."""
    period_end: datetime | None
    as_of: datetime
    """It bills periods that began before."""
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None = None
    """When a draft was advanced: from then on it waits for its approval."""
    issued_at: datetime | None
    due_at: datetime | None = None
    voided_at: datetime | None
    discarded: bool = False
    """Voided for good: what it billed is never billed again."""
    lines: tuple[Line, ...]
