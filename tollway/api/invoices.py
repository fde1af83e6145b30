"""
Invoices, as OpenMeter's v1 API has them.

An invoice is drawn up as a draft, fixed to what the ledger had; it is issued when it is approved. What a customer's
next invoice would bill shows as an invoice that is `gathering`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Struct

from tollway import invoicing
from tollway.api.problems import Invalid, Problem, bad_request, check_choices, utc_instant
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import listing, threaded
from tollway.api.wire import PAGE_SIZE, Json, Page, PageSizeV1, listed
from tollway.invoicing import ActionNotAvailable, Choice, Invoice, InvoiceStatus
from tollway.invoicing.v1 import APPROVAL_NEEDED, CREATED, VOID_ALL, as_v1
from tollway.ledger_reads import Connection, find_customer

TAGS = ["Invoices"]

STATUSES = (
    *InvoiceStatus,
    *("issuing", "payment_processing", "overdue", "paid", "uncollectible"),
)
"""Those that there are, and those that only OpenMeter has: no invoice has one of these."""

Instant = datetime | None


class LineFilters(Struct, rename="camel", kw_only=True):
    """Which pending lines to bill. All of them are: lines are worked out anew, and can't be chosen by id."""

    line_ids: list[str] | None = None


class InvoiceRequest(Struct, rename="camel", kw_only=True):
    """Whose invoice is to be drawn up, of periods that began before an instant."""

    customer_id: str
    as_of: datetime | None = None
    filters: LineFilters | None = None
    progressive_billing_override: bool | None = None
    """False: only billing periods that are over, and fees that are due."""


class VoidedLines(Struct, kw_only=True):
    """What is to become of the lines: billable again (`pending`), or never billed again (`discard`)."""

    type: Literal["pending", "discard"]


class VoidAction(Struct, kw_only=True):
    """How much of the lines is voided, which has to be all of it, and what becomes of them."""

    action: VoidedLines
    percentage: float = VOID_ALL


class VoidRequest(Struct, kw_only=True):
    """How an invoice is to be taken back; if nothing is said, what it billed is billable again."""

    action: VoidAction | None = None
    reason: str | None = None
    overrides: list[Json] | None = None


@post("/api/v1/billing/invoices/invoice", status_code=201, tags=TAGS)
@listing
def create_invoice(data: JSONBody[InvoiceRequest], stores: Stores) -> list[Json]:
    """Draw up a draft of all that was charged and not billed yet."""
    if data.filters is not None and data.filters.line_ids is not None:
        raise bad_request("filters.line_ids", "expected none: an invoice bills all that is not billed yet")
    as_of = _utc("as_of", data.as_of)
    progressive = data.progressive_billing_override is not False
    with stores.connection() as connection:
        return [as_v1(invoicing.draft(connection, data.customer_id, as_of, progressive=progressive))]


@get("/api/v1/billing/invoices", tags=TAGS)
@listing
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
    page: Page = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Json:
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
        first: list[Invoice] = []
        gathered = 0
        if InvoiceStatus.GATHERING in known and not any(instants.values()):
            first, gathered = invoicing.gatherings(connection, named, page_size, start)
        drawn = [status for status in known if status is not InvoiceStatus.GATHERING]
        found: list[Invoice] = []
        counted = 0
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
    items = [as_v1(one) for one in (*first, *found)]
    return {"totalCount": gathered + counted, "page": page, "pageSize": page_size, "items": items}


@get("/api/v1/billing/invoices/{invoice:str}", tags=TAGS)
@threaded
def get_invoice(invoice: FromPath[str], stores: Stores) -> Json:
    """An invoice by id or number."""
    with stores.connection() as connection:
        return as_v1(invoicing.invoice(connection, invoice))


@post("/api/v1/billing/invoices/{invoice:str}/advance", status_code=200, tags=TAGS)
@threaded
def advance_invoice(invoice: FromPath[str], stores: Stores) -> Json:
    """Move a new draft on: from then on it waits for its approval."""
    return _done(stores, invoicing.advance, invoice)


@post("/api/v1/billing/invoices/{invoice:str}/approve", status_code=200, tags=TAGS)
@threaded
def approve_invoice(invoice: FromPath[str], stores: Stores) -> Json:
    """Issue a draft: it gets its number, and the day on which it is due."""
    return _done(stores, invoicing.approve, invoice)


@post("/api/v1/billing/invoices/{invoice:str}/void", status_code=200, tags=TAGS)
@threaded
def void_invoice(invoice: FromPath[str], stores: Stores, data: JSONBody[VoidRequest | None] = None) -> Json:
    """Take an invoice or a draft back: what it billed is billable again, or is never billed again."""
    action = None if data is None else data.action
    if data is not None and data.overrides:
        raise bad_request("overrides", "expected none: all lines of an invoice are voided alike")
    if action is not None and action.percentage != VOID_ALL:
        raise bad_request("action.percentage", f"expected {VOID_ALL}: an invoice is voided as a whole")
    discard = None if action is None else action.action.type == "discard"

    def void(connection: Connection, reference: str) -> Invoice:
        return invoicing.void(connection, reference, discard=discard)

    return _done(stores, void, invoice)


@delete("/api/v1/billing/invoices/{invoice:str}", status_code=204, tags=TAGS)
@threaded
def delete_invoice(invoice: FromPath[str], stores: Stores) -> None:
    """Delete a draft: what it would have billed is billable again."""
    with stores.connection() as connection:
        try:
            invoicing.delete(connection, invoice)
        except ActionNotAvailable as failure:
            raise _refused(failure) from failure


def _done(stores: ApiStores, act: Callable[[Connection, str], Invoice], reference: str) -> Json:
    with stores.connection() as connection:
        try:
            return as_v1(act(connection, reference))
        except ActionNotAvailable as failure:
            raise _refused(failure) from failure


def _refused(failure: ActionNotAvailable) -> Problem:
    return Problem(400, failure.message, Invalid("status", failure.code, f"{failure.message}; {failure.hint}"))


def _utc(field: str, at: datetime | None) -> datetime | None:
    return None if at is None else utc_instant(field, at)


ROUTES: list[Any] = [
    create_invoice,
    list_invoices,
    get_invoice,
    advance_invoice,
    approve_invoice,
    void_invoice,
    delete_invoice,
]
