"""Invoices in the database. Their lines are written once; all that changes later is what an invoice has come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from rating.details import Category
from rating.money import ZERO, use_exact
from sinks.postgres.statements import statement
from tollway.invoicing.model import Invoice, InvoiceCustomer, InvoiceStatus, Line, LineDetail, Totals
from tollway.ledger_reads import Connection, NotFound, find_customer, is_storable, rows


def find_invoice(connection: Connection, reference: str) -> Invoice:
    """The invoice with an id or a number. Raises `NotFound`."""
    for found in _read(connection, _values(Choice()), reference=reference, limit=1) if is_storable(reference) else []:
        return found
    raise NotFound(
        "invoice",
        reference,
        "name it by its id or number; `tollway invoices`, and over HTTP `GET /api/v1/billing/invoices`, list them",
    )


def invoices(
    connection: Connection,
    customer: str | None = None,
    *,
    status: InvoiceStatus | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[Invoice]:
    """The invoices of one customer, or of all, that were drawn up: the newest first. Raises `NotFound`."""
    customer_ids = () if customer is None else (find_customer(connection, customer).id,)
    chosen = Choice(customer_ids=customer_ids, statuses=() if status is None else (status,))
    return _read(connection, _values(chosen), limit=limit, offset=offset)


class Choice(Struct, frozen=True, kw_only=True):
    """Which invoices, of those that were drawn up; what is not said does not matter."""

    customer_ids: Sequence[str] = ()
    statuses: Sequence[InvoiceStatus] = ()
    issued_after: datetime | None = None
    issued_before: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    awaits_approval: bool | None = None
    """Of drafts: only those that were advanced, or only those that were not."""


def chosen_invoices(
    connection: Connection, choice: Choice, *, limit: int, offset: int = 0, oldest_first: bool = False
) -> tuple[list[Invoice], int]:
    """A page of invoices, by the instants at which they were drawn up, and how many there are in all."""
    values = _values(choice)
    (counted,) = rows(connection, "count_invoices", values)
    found = _read(connection, values, limit=limit, offset=offset, oldest_first=oldest_first) if limit else []
    return found, counted["found"]


def _values(choice: Choice) -> dict[str, object]:
    return {
        "customer_ids": list(choice.customer_ids) or None,
        "statuses": [status.value for status in choice.statuses] or None,
        "issued_after": choice.issued_after,
        "issued_before": choice.issued_before,
        "created_after": choice.created_after,
        "created_before": choice.created_before,
        "awaits_approval": choice.awaits_approval,
    }


def insert(connection: Connection, invoice: Invoice) -> None:
    """Write an invoice with its lines and their children."""
    values = {
        "id": invoice.id,
        "number": invoice.number,
        "customer_id": invoice.customer.id,
        "currency": invoice.currency,
        "status": invoice.status.value,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "as_of": invoice.as_of,
        "created_at": invoice.created_at,
        "issued_at": invoice.issued_at,
        "due_at": invoice.due_at,
        **_totals_values(invoice.totals),
    }
    connection.execute(statement("insert_invoice"), values)
    with connection.cursor() as cursor:
        cursor.executemany(statement("insert_invoice_line"), list(_line_values(invoice)))


def _read(
    connection: Connection,
    values: dict[str, object],
    *,
    reference: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    oldest_first: bool = False,
) -> list[Invoice]:
    use_exact()
    place = {"reference": reference, "limit": limit, "offset": offset, "oldest_first": oldest_first}
    headers = rows(connection, "invoices", values | place)
    lines: dict[str, list[dict[str, Any]]] = {}
    children: dict[str, list[LineDetail]] = {}
    for row in rows(connection, "invoice_lines", {"invoice_ids": [header["id"] for header in headers]}):
        if row["parent_id"] is None:
            lines.setdefault(row["invoice_id"], []).append(row)
        else:
            children.setdefault(row["parent_id"], []).append(_child(row))
    return [_invoice(header, tuple(_line(row, children) for row in lines.get(header["id"], ()))) for header in headers]


def _invoice(row: dict[str, Any], lines: tuple[Line, ...]) -> Invoice:
    customer = InvoiceCustomer(row["customer_id"], row["customer_key"], row["customer_name"])
    return msgspec.convert(row | {"customer": customer, "totals": _totals(row), "lines": lines}, Invoice)


def _line(row: dict[str, Any], children: dict[str, list[LineDetail]]) -> Line:
    composed = {
        "type": row["category"],
        "totals": _totals(row),
        "children": tuple(children.get(row["id"], ())),
    }
    return msgspec.convert(row | composed, Line)


def _child(row: dict[str, Any]) -> LineDetail:
    return LineDetail(
        id=row["id"],
        name=row["name"],
        category=Category(row["category"]),
        per_unit_amount=(row["unit_price"] or ZERO) + (row["flat_price"] or ZERO),
        is_flat=row["flat_price"] is not None,
        quantity=row["quantity"],
        totals=_totals(row),
    )


def _totals(row: dict[str, Any]) -> Totals:
    return Totals.of(row["amount"], row["charges"], row["discounts"], row["credits"], row["overage"])


def _totals_values(totals: Totals) -> dict[str, object]:
    return {
        "amount": totals.amount,
        "charges": totals.charges_total,
        "discounts": totals.discounts_total,
        "credits": totals.credits_total,
        "overage": totals.overage_total,
        "total": totals.total,
    }


def _line_values(invoice: Invoice) -> Iterator[dict[str, object]]:
    """Each line, followed by its children, which repeat whose they are."""
    position = 0
    for line in invoice.lines:
        position += 1
        place = {
            "invoice_id": invoice.id,
            "subscription_id": line.subscription_id,
            "card_key": line.card_key,
            "feature_key": line.feature_key,
            "grant_id": line.grant_id,
            "period_start": line.period_start,
            "period_end": line.period_end,
            "closed": line.closed,
        }
        yield {
            **place,
            **_totals_values(line.totals),
            "id": line.id,
            "parent_id": None,
            "position": position,
            "name": line.name,
            "category": line.type.value,
            "quantity": line.quantity,
            "metered_quantity": line.metered_quantity,
            "unit_price": None,
            "flat_price": None,
            "rate_card": msgspec.json.encode(line.rate_card).decode(),
            "usage_after": line.usage_after,
            "credits_after": line.credits_after,
            "charged": line.charged,
            "credited": line.credited,
        }
        for child in line.children:
            position += 1
            yield {
                **place,
                **_totals_values(child.totals),
                "id": child.id,
                "parent_id": line.id,
                "position": position,
                "name": child.name,
                "category": child.category.value,
                "quantity": child.quantity,
                "metered_quantity": None,
                "unit_price": None if child.is_flat else child.per_unit_amount,
                "flat_price": child.per_unit_amount if child.is_flat else None,
                "rate_card": None,
                "usage_after": None,
                "credits_after": None,
                "charged": ZERO,
                "credited": ZERO,
            }
