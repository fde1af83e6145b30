"""
Invoices, as OpenMeter's v1 API has them.

An invoice is drawn up as a draft, fixed to what the ledger had; it is issued when it is approved. What a customer's
next invoice would bill shows as an invoice that is `gathering`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from tollway import invoicing
from tollway.invoicing import Choice, InvoiceStatus
from tollway.ledger_reads import find_customer
from tollway.openmeter.invoice_views import APPROVAL_NEEDED, CREATED, VOID_ALL, Invoice, VoidedAs, view
from tollway.openmeter.problems import bad_request, check_choices, utc_instant
from tollway.openmeter.routes import v1
from tollway.openmeter.shapes import Body, Page
from tollway.openmeter.stores import Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import PAGE_SIZE, Json, PageSizeV1, listed
from tollway.openmeter.wire import Page as PageV1

TAGS = ["Invoices"]

STATUSES = (
    *InvoiceStatus,
    *("issuing", "payment_processing", "overdue", "paid", "uncollectible"),
)
"""Those that there are, and those that only OpenMeter has: no invoice has one of these."""

Instant = datetime | None


class LineFilters(Body):
    """Which pending lines to bill. All of them are: lines are worked out anew, and can't be chosen by id."""

    line_ids: list[str] | None = None


class InvoiceRequest(Body):
    """Whose invoice is to be drawn up, of periods that began before an instant."""

    customer_id: str
    as_of: Instant = None
    filters: LineFilters | None = None
    progressive_billing_override: bool | None = None
    """False: only billing periods that are over, and fees that are due."""


class VoidLines(Body):
    """What is to become of the lines: billable again (`pending`), or never billed again (`discard`)."""

    type: VoidedAs


class VoidAction(Body):
    """How much of the lines is voided, which has to be all of it, and what becomes of them."""

    action: VoidLines
    percentage: float = VOID_ALL


class VoidRequest(Body):
    """How an invoice is to be taken back; if nothing is said, what it billed is billable again."""

    action: VoidAction | None = None
    reason: str | None = None
    overrides: list[Json] | None = None


@v1(post, "/billing/invoices/invoice", on=listing, status_code=201, tags=TAGS)
def create_invoice(data: JSONBody[InvoiceRequest], stores: Stores) -> list[Invoice]:
    """Draw up a draft of all that was charged and not billed yet."""
    if data.filters is not None and data.filters.line_ids is not None:
        raise bad_request("filters.line_ids", "expected none: an invoice bills all that is not billed yet")
    as_of = _utc("as_of", data.as_of)
    progressive = data.progressive_billing_override is not False
    with stores.connection() as connection:
        return [view(invoicing.draft(connection, data.customer_id, as_of, progressive=progressive))]


@v1(get, "/billing/invoices", on=listing, tags=TAGS)
def list_invoices(
    stores: Stores,
    statuses: FromQuery[list[str] | None] = None,
    extended_statuses: Annotated[list[str] | None, QueryParameter(name="extendedStatuses")] = None,
    customers: FromQuery[list[str] | None] = None,
    issued_after: Annotated[Instant, QueryParameter(name="issuedAfter")] = None,
    issued_before: Annotated[Instant, QueryParameter(name="issuedBefore")] = None,
    created_after: Annotated[Instant, QueryParameter(name="createdAfter")] = None,
    created_before: Annotated[Instant, QueryParameter(name="createdBefore")] = None,
    order: FromQuery[Literal["ASC", "DESC"]] = "DESC",
    page: PageV1 = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Page[Invoice]:
    """
    Invoices, always with their lines: first those that are gathering, by customer, then the newest.

    `order` is that of the instants at which they were drawn up.
    """
    wanted = listed(statuses)
    detailed = listed(extended_statuses)
    check_choices("statuses", wanted, STATUSES)
    check_choices("extendedStatuses", (status.partition(".")[0] for status in detailed), STATUSES)
    start = (page - 1) * page_size
    # A gathering invoice has no instants to look for: it changes all the time.
    instants = {
        "issued_after": _utc("issued_after", issued_after),
        "issued_before": _utc("issued_before", issued_before),
        "created_after": _utc("created_after", created_after),
        "created_before": _utc("created_before", created_before),
    }
    chosen = {status.partition(".")[0] for status in wanted or detailed} or set(InvoiceStatus)
    known = [status for status in InvoiceStatus if status in chosen]
    stages = {CREATED, APPROVAL_NEEDED}.intersection(detailed)
    with stores.connection() as connection:
        named = [find_customer(connection, customer).id for customer in listed(customers)]
        first, gathered = list[invoicing.Invoice](), 0
        if InvoiceStatus.GATHERING in known and not any(instants.values()):
            first, gathered = invoicing.gatherings(connection, named, page_size, start)
        drawn = [status for status in known if status is not InvoiceStatus.GATHERING]
        found, counted = list[invoicing.Invoice](), 0
        if drawn:
            found, counted = invoicing.chosen_invoices(
                connection,
                Choice(
                    customer_ids=named,
                    statuses=drawn,
                    awaits_approval=APPROVAL_NEEDED in stages if len(stages) == 1 else None,
                    **instants,
                ),
                limit=max(page_size - max(gathered - start, 0), 0),
                offset=max(start - gathered, 0),
                oldest_first=order == "ASC",
            )
    items = [view(one) for one in (*first, *found)]
    return Page(total_count=gathered + counted, page=page, page_size=page_size, items=items)


@v1(get, "/billing/invoices/{invoice:str}", tags=TAGS)
def get_invoice(invoice: FromPath[str], stores: Stores) -> Invoice:
    """An invoice by id or number."""
    with stores.connection() as connection:
        return view(invoicing.invoice(connection, invoice))


@v1(post, "/billing/invoices/{invoice:str}/advance", status_code=200, tags=TAGS)
def advance_invoice(invoice: FromPath[str], stores: Stores) -> Invoice:
    """Move a new draft on: from then on it waits for its approval."""
    with stores.connection() as connection:
        return view(invoicing.advance(connection, invoice))


@v1(post, "/billing/invoices/{invoice:str}/approve", status_code=200, tags=TAGS)
def approve_invoice(invoice: FromPath[str], stores: Stores) -> Invoice:
    """Issue a draft: it gets its number, and the day on which it is due."""
    with stores.connection() as connection:
        return view(invoicing.approve(connection, invoice))


@v1(post, "/billing/invoices/{invoice:str}/void", status_code=200, tags=TAGS)
def void_invoice(invoice: FromPath[str], stores: Stores, data: JSONBody[VoidRequest | None] = None) -> Invoice:
    """Take an invoice or a draft back: what it billed is billable again, or is never billed again."""
    action = None if data is None else data.action
    if data is not None and data.overrides:
        raise bad_request("overrides", "expected none: all lines of an invoice are voided alike")
    if action is not None and action.percentage != VOID_ALL:
        raise bad_request("action.percentage", f"expected {VOID_ALL}: an invoice is voided as a whole")
    discard = None if action is None else action.action.type == "discard"
    with stores.connection() as connection:
        return view(invoicing.void(connection, invoice, discard=discard))


@v1(delete, "/billing/invoices/{invoice:str}", status_code=204, tags=TAGS)
def delete_invoice(invoice: FromPath[str], stores: Stores) -> None:
    """Delete a draft: what it would have billed is billable again."""
    with stores.connection() as connection:
        invoicing.delete(connection, invoice)


def _utc(field: str, at: datetime | None) -> datetime | None:
    return None if at is None else utc_instant(field, at)


ROUTES = [
    create_invoice,
    list_invoices,
    get_invoice,
    advance_invoice,
    approve_invoice,
    void_invoice,
    delete_invoice,
]
