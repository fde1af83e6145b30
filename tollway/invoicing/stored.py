"""Invoices in the database. They are written once; all that changes later is whether they are voided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rating.details import Category
from rating.money import ZERO, use_exact
from tollway.invoicing.model import Invoice, InvoiceCustomer, InvoiceStatus, Line, LineDetail, Totals
from tollway.ledger_reads import Connection, NotFound, find_customer, is_storable, rows, statement


def find_invoice(connection: Connection, reference: str) -> Invoice:
    """The invoice with an id or a number. Raises `NotFound`."""
    for found in _read(connection, reference=reference, limit=1) if is_storable(reference) else []:
        return found
    raise NotFound("invoice", reference, "name it by its id or number, as the list of invoices has them")


def invoices(
    connection: Connection,
    customer: str | None = None,
    *,
    status: InvoiceStatus | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[Invoice]:
    """The invoices of one customer, or of all, that were drawn up: the newest first. Raises `NotFound`."""
    customer_id = None if customer is None else find_customer(connection, customer).id
    text = None if status is None else status.value
    return _read(connection, customer_id=customer_id, status=text, limit=limit, offset=offset)


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
        "issued_at": invoice.issued_at,
        **_totals_values(invoice.totals),
    }
    connection.execute(statement("insert_invoice"), values)
    with connection.cursor() as cursor:
        cursor.executemany(statement("insert_invoice_line"), list(_line_values(invoice)))


def _read(
    connection: Connection,
    *,
    customer_id: str | None = None,
    reference: str | None = None,
    status: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[Invoice]:
    use_exact()
    values = {
        "customer_id": customer_id,
        "reference": reference,
        "status": status,
        "limit": limit,
        "offset": offset,
    }
    headers = rows(connection, "invoices", values)
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
    return Totals.of(row["amount"], row["charges"], row["discounts"], row["credits"])


def _totals_values(totals: Totals) -> dict[str, object]:
    return {
        "amount": totals.amount,
        "charges": totals.charges_total,
        "discounts": totals.discounts_total,
        "credits": totals.credits_total,
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
            }
