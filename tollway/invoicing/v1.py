"""Invoices as OpenMeter's v1 API writes them: camelCase, numbers as strings in plain notation."""

from __future__ import annotations

from datetime import datetime
from typing import Final, assert_never

from rating.money import plain
from rating.prices import Json
from tollway.invoicing.drawing import DUE_AFTER
from tollway.invoicing.model import Invoice, InvoiceStatus, Line, LineDetail, Totals

CREATED: Final = "draft.created"
APPROVAL_NEEDED: Final = "draft.manual_approval_needed"
"""What a draft is in full: just drawn up, or advanced."""

VOID_ALL: Final = 100
"""An invoice is voided as a whole, in percent."""

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


def extended_status(invoice: Invoice) -> str:
    """The status in full."""
    if invoice.status is InvoiceStatus.DRAFT:
        return CREATED if invoice.ready_at is None else APPROVAL_NEEDED
    return invoice.status.value


def as_v1(invoice: Invoice) -> Json:
    """An invoice with its lines and their children. A field that has no value is left out."""
    written: Json = {
        "id": invoice.id,
        "type": "standard",
        "number": invoice.number,
        "status": invoice.status.value,
        "statusDetails": {
            "immutable": invoice.status not in (InvoiceStatus.GATHERING, InvoiceStatus.DRAFT),
            "failed": False,
            "extendedStatus": extended_status(invoice),
            "availableActions": _available_actions(invoice),
        },
        "customer": {
            "id": invoice.customer.id,
            "key": invoice.customer.key,
            "name": invoice.customer.name,
        },
        "currency": invoice.currency,
        "totals": _totals(invoice.totals),
        "lines": [_line(line, invoice) for line in invoice.lines],
        "validationIssues": [],
        "workflow": WORKFLOW,
        "createdAt": _instant(invoice.created_at),
        "updatedAt": _instant(invoice.updated_at),
        "quantitySnapshotedAt": _instant(invoice.created_at),
        "collectionAt": _instant(invoice.created_at),
    }
    if invoice.period_start is not None and invoice.period_end is not None:
        written["period"] = _period(invoice.period_start, invoice.period_end)
    dates = (("issuedAt", invoice.issued_at), ("dueAt", invoice.due_at), ("voidedAt", invoice.voided_at))
    for name, at in dates:
        if at is not None:
            written[name] = _instant(at)
    if invoice.status is InvoiceStatus.VOIDED:
        written["voidAction"] = {
            "percentage": VOID_ALL,
            "action": {"type": "discard" if invoice.discarded else "pending"},
        }
    return written


def _available_actions(invoice: Invoice) -> Json:
    void: Json = {"void": {"resultingState": InvoiceStatus.VOIDED.value}}
    match invoice.status:
        case InvoiceStatus.GATHERING:
            return {"invoice": {}}
        case InvoiceStatus.DRAFT:
            advance: Json = {} if invoice.ready_at else {"advance": {"resultingState": APPROVAL_NEEDED}}
            approve: Json = {"approve": {"resultingState": InvoiceStatus.ISSUED.value}}
            return advance | approve | {"delete": {"resultingState": "deleted"}} | void
        case InvoiceStatus.ISSUED:
            return void
        case InvoiceStatus.VOIDED:
            return {}
        case _:
            assert_never(invoice.status)


def _line(line: Line, invoice: Invoice) -> Json:
    credits = line.totals.credits_total
    written: Json = {
        "id": line.id,
        "type": line.type.value,
        "name": line.name,
        "currency": invoice.currency,
        "invoice": {"id": invoice.id},
        "status": "valid",
        "managedBy": "system" if line.subscription_id is None else "subscription",
        "featureKey": line.feature_key,
        "period": _period(line.period_start, line.period_end),
        "invoiceAt": _instant(line.period_end),
        "quantity": plain(line.quantity),
        "meteredQuantity": plain(line.metered_quantity),
        "meteredPreLinePeriodQuantity": plain(line.usage_after - line.metered_quantity),
        "totals": _totals(line.totals),
        "price": line.rate_card["price"],
        "rateCard": {"featureKey": line.feature_key} | line.rate_card,
        "creditAllocations": [{"amount": plain(credits)}] if credits else [],
        "children": [_child(child, line, invoice) for child in line.children],
        "createdAt": _instant(invoice.created_at),
        "updatedAt": _instant(invoice.created_at),
    }
    if line.subscription_id is not None:
        written["subscription"] = {"id": line.subscription_id}
    if line.grant_id is not None:
        written["metadata"] = {"grantId": line.grant_id}
    return written


def _child(child: LineDetail, line: Line, invoice: Invoice) -> Json:
    return {
        "id": child.id,
        "type": "flat_fee",
        "name": child.name,
        "currency": invoice.currency,
        "status": "detailed",
        "managedBy": "system",
        "period": _period(line.period_start, line.period_end),
        "invoiceAt": _instant(line.period_end),
        "createdAt": _instant(invoice.created_at),
        "updatedAt": _instant(invoice.created_at),
        "category": child.category.value,
        "perUnitAmount": plain(child.per_unit_amount),
        "quantity": plain(child.quantity),
        "totals": _totals(child.totals),
    }


def _totals(totals: Totals) -> Json:
    return {
        "amount": plain(totals.amount),
        "chargesTotal": plain(totals.charges_total),
        "discountsTotal": plain(totals.discounts_total),
        "creditsTotal": plain(totals.credits_total),
        "overageTotal": plain(totals.overage_total),
        "taxesTotal": plain(totals.taxes_total),
        "total": plain(totals.total),
    }


def _period(start: datetime, end: datetime) -> Json:
    return {"from": _instant(start), "to": _instant(end)}


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
