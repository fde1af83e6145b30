"""Invoices as OpenMeter's v1 API writes them: camelCase, numbers as strings in plain notation."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from rating.money import plain
from rating.prices import Json
from tollway.invoicing.model import Invoice, InvoiceStatus, Line, LineDetail, Totals


def as_v1(invoice: Invoice) -> Json:
    """An invoice with its lines and their children. A field that has no value is left out."""
    written: Json = {
        "id": invoice.id,
        "type": "standard",
        "number": invoice.number,
        "status": invoice.status.value,
        "statusDetails": {
            "immutable": invoice.status is not InvoiceStatus.GATHERING,
            "failed": False,
            "extendedStatus": invoice.status.value,
            "availableActions": _available_actions(invoice.status),
        },
        "customer": {
            "id": invoice.customer.id,
            "key": invoice.customer.key,
            "name": invoice.customer.name,
        },
        "currency": invoice.currency,
        "totals": _totals(invoice.totals),
        "lines": [_line(line, invoice.currency) for line in invoice.lines],
        "validationIssues": [],
    }
    if invoice.period_start is not None and invoice.period_end is not None:
        written["period"] = _period(invoice.period_start, invoice.period_end)
    for name, at in (("issuedAt", invoice.issued_at), ("voidedAt", invoice.voided_at)):
        if at is not None:
            written[name] = _instant(at)
    return written


def _available_actions(status: InvoiceStatus) -> Json:
    match status:
        case InvoiceStatus.GATHERING:
            return {"invoice": {}}
        case InvoiceStatus.ISSUED:
            return {"void": {"resultingState": InvoiceStatus.VOIDED.value}}
        case InvoiceStatus.VOIDED:
            return {}
        case _:
            assert_never(status)


def _line(line: Line, currency: str) -> Json:
    credits = line.totals.credits_total
    return {
        "id": line.id,
        "type": line.type.value,
        "name": line.name,
        "currency": currency,
        "subscription": {"id": line.subscription_id},
        "featureKey": line.feature_key,
        "period": _period(line.period_start, line.period_end),
        "quantity": plain(line.quantity),
        "meteredQuantity": plain(line.metered_quantity),
        "totals": _totals(line.totals),
        "rateCard": {"featureKey": line.feature_key} | line.rate_card,
        "creditAllocations": [{"amount": plain(credits)}] if credits else [],
        "children": [_child(child) for child in line.children],
    }


def _child(child: LineDetail) -> Json:
    return {
        "id": child.id,
        "name": child.name,
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
        "taxesTotal": plain(totals.taxes_total),
        "total": plain(totals.total),
    }


def _period(start: datetime, end: datetime) -> Json:
    return {"from": _instant(start), "to": _instant(end)}


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
