"""
Invoices, as OpenMeter's v1 API has them.

An invoice is issued at once when it is drawn up: there is nothing to advance or to approve, so both leave it as it is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, LiteralString

from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct

from tollway import invoicing
from tollway.api.problems import bad_request
from tollway.api.stores import Stores
from tollway.api.threads import threaded
from tollway.api.wire import PAGE_SIZE, Json, Page, PageSizeV1, instant, listed
from tollway.invoicing import Invoice, InvoiceStatus
from tollway.ledger_reads import Connection, find_customer

TAGS = ["Invoices"]
LIST: LiteralString = (
    "select id from invoices where (%(customers)s::text[] is null or customer_id = any(%(customers)s))"
    " and (%(statuses)s::text[] is null or status = any(%(statuses)s))"
    " order by issued_at desc, id desc limit %(limit)s offset %(offset)s"
)
COUNT: LiteralString = (
    "select count(*) from invoices where (%(customers)s::text[] is null or customer_id = any(%(customers)s))"
    " and (%(statuses)s::text[] is null or status = any(%(statuses)s))"
)


class InvoiceRequest(Struct, rename="camel", kw_only=True):
    """Whose invoice is to be drawn up, of periods that began before an instant."""

    customer_id: str
    as_of: datetime | None = None


def body(invoice: Invoice) -> Json:
    """An invoice as v1 writes it."""
    made_at = instant(invoice.issued_at or invoice.as_of)
    changed_at = instant(invoice.voided_at or invoice.issued_at or invoice.as_of)
    return invoicing.as_v1(invoice) | {"createdAt": made_at, "updatedAt": changed_at}


@post("/api/v1/billing/invoices/invoice", status_code=201, tags=TAGS)
@threaded
def create_invoice(data: JSONBody[InvoiceRequest], stores: Stores) -> list[Json]:
    """Bill all that was charged and not billed yet."""
    if data.as_of is not None and data.as_of.tzinfo is None:
        raise bad_request("as_of", "expected an instant with an offset, as in 2026-03-01T12:00:00Z")
    as_of = None if data.as_of is None else data.as_of.astimezone(UTC)
    with stores.connection() as connection:
        return [body(invoicing.draw_up(connection, data.customer_id, as_of))]


@get("/api/v1/billing/invoices", tags=TAGS)
@threaded
def list_invoices(
    stores: Stores,
    statuses: FromQuery[list[str] | None] = None,
    customers: FromQuery[list[str] | None] = None,
    page: Page = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Json:
    """Invoices, the newest first; of the customers that are named, also what the next one will bill."""
    wanted = listed(statuses)
    named = listed(customers)
    with stores.connection() as connection:
        ids = [find_customer(connection, customer).id for customer in named]
        gathered = _gathering(connection, ids) if not wanted or InvoiceStatus.GATHERING in wanted else []
        values = {
            "customers": ids or None,
            "statuses": wanted or None,
            "limit": page_size,
            "offset": max((page - 1) * page_size - len(gathered), 0),
        }
        start = (page - 1) * page_size
        first = gathered[start : start + page_size]
        values["limit"] = page_size - len(first)
        found = [invoicing.invoice(connection, row[0]) for row in connection.execute(LIST, values).fetchall()]
        counted = connection.execute(COUNT, values).fetchone()
    total = len(gathered) + (int(counted[0]) if counted else 0)
    items = [body(invoice) for invoice in (*first, *found)]
    return {"totalCount": total, "page": page, "pageSize": page_size, "items": items}


def _gathering(connection: Connection, customer_ids: list[str]) -> list[Invoice]:
    found = (invoicing.gathering(connection, customer_id) for customer_id in customer_ids)
    return [invoice for invoice in found if invoice.lines]


@get("/api/v1/billing/invoices/{invoice:str}", tags=TAGS)
@threaded
def get_invoice(invoice: FromPath[str], stores: Stores) -> Json:
    """An invoice by id or number."""
    with stores.connection() as connection:
        return body(invoicing.invoice(connection, invoice))


@post("/api/v1/billing/invoices/{invoice:str}/advance", status_code=200, tags=TAGS)
@threaded
def advance_invoice(invoice: FromPath[str], stores: Stores) -> Json:
    """Leaves the invoice as it is: it was issued when it was drawn up."""
    with stores.connection() as connection:
        return body(invoicing.invoice(connection, invoice))


@post("/api/v1/billing/invoices/{invoice:str}/approve", status_code=200, tags=TAGS)
@threaded
def approve_invoice(invoice: FromPath[str], stores: Stores) -> Json:
    """Leaves the invoice as it is: it was issued when it was drawn up."""
    with stores.connection() as connection:
        return body(invoicing.invoice(connection, invoice))


@post("/api/v1/billing/invoices/{invoice:str}/void", status_code=200, tags=TAGS)
@threaded
def void_invoice(invoice: FromPath[str], stores: Stores, data: JSONBody[Json | None] = None) -> Json:
    """Take an invoice back: what it billed is billable again."""
    with stores.connection() as connection:
        return body(invoicing.void(connection, invoice))


ROUTES: list[Any] = [create_invoice, list_invoices, get_invoice, advance_invoice, approve_invoice, void_invoice]
