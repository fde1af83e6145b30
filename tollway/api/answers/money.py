"""Invoices."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET

from tollway.api.answers.shared import Answer, Optional
from tollway.api.wire import Json, Metadata
from tollway.openmeter.prices import PriceV1 as Price
from tollway.openmeter.shapes import Amount, Period, Reference, Totals


class InvoiceCustomer(Answer, frozen=True):
    """The customer as it was when the invoice was drawn up."""

    id: str
    key: str
    name: str


class InvoiceStatusDetails(Answer, frozen=True):
    """What can be done with an invoice, and what becomes of it then."""

    immutable: bool
    failed: bool
    extended_status: str
    available_actions: Json


class InvoiceChild(Answer, frozen=True):
    """A part of a line, as a tier."""

    id: str
    type: Literal["flat_fee"]
    name: str
    currency: str
    status: str
    managed_by: str
    period: Period
    invoice_at: datetime
    category: Literal["regular", "commitment"]
    per_unit_amount: Amount
    quantity: Amount
    totals: Totals
    created_at: datetime
    updated_at: datetime


class InvoiceRateCard(Answer, frozen=True):
    """What a line was priced by."""

    price: Price | None
    discounts: Json | None
    feature_key: str | None
    unit_config: Optional[Json | None] = UNSET


class CreditAllocation(Answer, frozen=True):
    """What credits paid."""

    amount: Amount


class InvoiceLine(Answer, frozen=True):
    """What a rate card or a purchase of credits came to, with a child for each part of it."""

    id: str
    type: Literal["flat_fee", "usage_based"]
    name: str
    currency: str
    invoice: Reference
    status: str
    managed_by: str
    feature_key: str | None
    period: Period
    invoice_at: datetime
    quantity: Amount
    metered_quantity: Amount
    metered_pre_line_period_quantity: Amount
    totals: Totals
    price: Price | None
    rate_card: InvoiceRateCard
    credit_allocations: list[CreditAllocation]
    children: list[InvoiceChild]
    created_at: datetime
    updated_at: datetime
    subscription: Optional[Reference] = UNSET
    metadata: Optional[Metadata] = UNSET


class VoidedLines(Answer, frozen=True):
    """What became of the lines of a voided invoice: billable again (`pending`), or never billed again (`discard`)."""

    type: Literal["pending", "discard"]


class VoidAction(Answer, frozen=True):
    """How an invoice was voided."""

    percentage: int
    action: VoidedLines


class Invoice(Answer, frozen=True):
    """What was charged, and not billed before."""

    id: str
    type: str
    number: str
    status: Literal["gathering", "draft", "issued", "voided"]
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
    period: Optional[Period] = UNSET
    issued_at: Optional[datetime] = UNSET
    due_at: Optional[datetime] = UNSET
    voided_at: Optional[datetime] = UNSET
    void_action: Optional[VoidAction] = UNSET
