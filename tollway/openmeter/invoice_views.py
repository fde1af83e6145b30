"""Invoices as they are shown: in OpenMeter's API only v1 has them."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, assert_never

from msgspec.structs import asdict

from rating.details import Category
from rating.money import plain
from tollway.invoicing import DUE_AFTER, model
from tollway.invoicing.model import InvoiceStatus, LineType
from tollway.openmeter.codec import of_v1
from tollway.openmeter.prices import PriceV1, UnitConfig
from tollway.openmeter.shapes import Amount, Period, Reference, Totals, View
from tollway.openmeter.wire import Json, Metadata

CREATED: Final = "draft.created"
APPROVAL_NEEDED: Final = "draft.manual_approval_needed"
"""What a draft is in full: just drawn up, or advanced."""

VOID_ALL: Final = 100
"""An invoice is voided as a whole, in percent."""

VoidedAs = Literal["pending", "discard"]
"""What becomes of the lines of a voided invoice: they are billable again, or never billed again."""


class InvoiceCustomer(View, frozen=True):
    """The customer as it was when the invoice was drawn up."""

    id: str
    key: str
    name: str


class InvoiceAction(View, frozen=True):
    """What an invoice is after something was done with it."""

    resulting_state: str


class InvoiceActions(View, frozen=True):
    """What can be done with an invoice."""

    invoice: Json | None = None
    advance: InvoiceAction | None = None
    approve: InvoiceAction | None = None
    delete: InvoiceAction | None = None
    void: InvoiceAction | None = None


class InvoiceStatusDetails(View, frozen=True):
    """What can be done with an invoice, and what becomes of it then."""

    immutable: bool
    failed: bool
    extended_status: str
    available_actions: InvoiceActions


class _Billed(View, frozen=True):
    id: str
    name: str
    currency: str
    status: Literal["valid", "detailed"]
    managed_by: Literal["system", "subscription"]
    period: Period
    invoice_at: datetime
    quantity: Amount
    totals: Totals
    created_at: datetime
    updated_at: datetime


class InvoiceChild(_Billed, frozen=True, kw_only=True):
    """A part of a line, as a tier."""

    type: Literal["flat_fee"]
    category: Category
    per_unit_amount: Amount


class InvoiceRateCard(View, frozen=True):
    """What a line was priced by."""

    price: PriceV1 | None
    discounts: Json | None
    feature_key: str | None
    unit_config: UnitConfig | None = None


class CreditAllocation(View, frozen=True):
    """What credits paid."""

    amount: Amount


class InvoiceLine(_Billed, frozen=True, kw_only=True):
    """What a rate card or a purchase of credits came to, with a child for each part of it."""

    type: LineType
    invoice: Reference
    feature_key: str | None
    metered_quantity: Amount
    metered_pre_line_period_quantity: Amount
    price: PriceV1 | None
    rate_card: InvoiceRateCard
    credit_allocations: list[CreditAllocation]
    children: list[InvoiceChild]
    subscription: Reference | None = None
    labels: Metadata | None = None


class VoidedLines(View, frozen=True):
    """What became of the lines of a voided invoice: billable again (`pending`), or never billed again (`discard`)."""

    type: VoidedAs


class InvoiceVoided(View, frozen=True):
    """How an invoice was voided."""

    percentage: int
    action: VoidedLines


class Invoice(View, frozen=True):
    """What was charged, and not billed before."""

    id: str
    type: Literal["standard"]
    number: str
    status: InvoiceStatus
    status_details: InvoiceStatusDetails
    customer: InvoiceCustomer
    currency: str
    totals: Totals
    lines: list[InvoiceLine]
    validation_issues: list[Json]
    workflow: Json
    created_at: datetime
    updated_at: datetime
    quantity_snapshoted_at: datetime
    collection_at: datetime
    period: Period | None = None
    issued_at: datetime | None = None
    due_at: datetime | None = None
    voided_at: datetime | None = None
    void_action: InvoiceVoided | None = None


WORKFLOW: Final[Json] = {
    "workflow": {
        "collection": {"alignment": {"type": "subscription"}, "interval": "PT0S"},
        "invoicing": {
            "autoAdvance": False,
            "draftPeriod": "P0D",
            "dueAfter": DUE_AFTER,
            "progressiveBilling": True,
        },
    },
}
"""The workflow of all invoices: usage is collected at once, and a draft waits until it is approved."""


def view(invoice: model.Invoice) -> Invoice:
    """An invoice as it is shown, with its lines and their children."""
    start, end = invoice.period_start, invoice.period_end
    voided = VoidedLines(type="discard" if invoice.discarded else "pending")
    return Invoice(
        id=invoice.id,
        type="standard",
        number=invoice.number,
        status=invoice.status,
        status_details=InvoiceStatusDetails(
            immutable=invoice.status not in (InvoiceStatus.GATHERING, InvoiceStatus.DRAFT),
            failed=False,
            extended_status=_extended_status(invoice),
            available_actions=_available_actions(invoice),
        ),
        customer=InvoiceCustomer(id=invoice.customer.id, key=invoice.customer.key, name=invoice.customer.name),
        currency=invoice.currency,
        totals=_totals(invoice.totals),
        lines=[_line(line, invoice) for line in invoice.lines],
        validation_issues=[],
        workflow=WORKFLOW,
        created_at=invoice.created_at,
        updated_at=invoice.updated_at,
        quantity_snapshoted_at=invoice.created_at,
        collection_at=invoice.created_at,
        period=None if start is None or end is None else Period(from_=start, to=end),
        issued_at=invoice.issued_at,
        due_at=invoice.due_at,
        voided_at=invoice.voided_at,
        void_action=(
            InvoiceVoided(percentage=VOID_ALL, action=voided) if invoice.status is InvoiceStatus.VOIDED else None
        ),
    )


def _extended_status(invoice: model.Invoice) -> str:
    if invoice.status is InvoiceStatus.DRAFT:
        return CREATED if invoice.ready_at is None else APPROVAL_NEEDED
    return invoice.status.value


def _available_actions(invoice: model.Invoice) -> InvoiceActions:
    void = InvoiceAction(resulting_state=InvoiceStatus.VOIDED)
    match invoice.status:
        case InvoiceStatus.GATHERING:
            return InvoiceActions(invoice={})
        case InvoiceStatus.DRAFT:
            return InvoiceActions(
                advance=None if invoice.ready_at else InvoiceAction(resulting_state=APPROVAL_NEEDED),
                approve=InvoiceAction(resulting_state=InvoiceStatus.ISSUED),
                delete=InvoiceAction(resulting_state="deleted"),
                void=void,
            )
        case InvoiceStatus.ISSUED:
            return InvoiceActions(void=void)
        case InvoiceStatus.VOIDED:
            return InvoiceActions()
        case _:
            assert_never(invoice.status)


def _line(line: model.Line, invoice: model.Invoice) -> InvoiceLine:
    credits = plain(line.totals.credits_total)
    rate_card: InvoiceRateCard = of_v1({"featureKey": line.feature_key} | line.rate_card, InvoiceRateCard)
    return InvoiceLine(
        id=line.id,
        type=line.type,
        name=line.name,
        currency=invoice.currency,
        invoice=Reference(id=invoice.id),
        status="valid",
        managed_by="system" if line.subscription_id is None else "subscription",
        feature_key=line.feature_key,
        period=Period(from_=line.period_start, to=line.period_end),
        invoice_at=line.period_end,
        quantity=plain(line.quantity),
        metered_quantity=plain(line.metered_quantity),
        metered_pre_line_period_quantity=plain(line.usage_after - line.metered_quantity),
        totals=_totals(line.totals),
        price=rate_card.price,
        rate_card=rate_card,
        credit_allocations=[CreditAllocation(amount=credits)] if line.totals.credits_total else [],
        children=[_child(child, line, invoice) for child in line.children],
        created_at=invoice.created_at,
        updated_at=invoice.created_at,
        subscription=None if line.subscription_id is None else Reference(id=line.subscription_id),
        labels=None if line.grant_id is None else {"grantId": line.grant_id},
    )


def _child(child: model.LineDetail, line: model.Line, invoice: model.Invoice) -> InvoiceChild:
    return InvoiceChild(
        id=child.id,
        type="flat_fee",
        name=child.name,
        currency=invoice.currency,
        status="detailed",
        managed_by="system",
        period=Period(from_=line.period_start, to=line.period_end),
        invoice_at=line.period_end,
        category=child.category,
        per_unit_amount=plain(child.per_unit_amount),
        quantity=plain(child.quantity),
        totals=_totals(child.totals),
        created_at=invoice.created_at,
        updated_at=invoice.created_at,
    )


def _totals(totals: model.Totals) -> Totals:
    return Totals(**{name: plain(amount) for name, amount in asdict(totals).items()})
