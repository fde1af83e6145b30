"""
Drawing invoices up, issuing them, and taking them back: one customer at a time, each in one transaction.

    gathering ──draft──► draft ──approve──► issued
                         │   └─advance─► draft that waits for approval
                         ├─delete─► gone                ├─void─► voided
                         └─void───► voided

A draft is fixed when it is drawn up: usage that comes later is on the next one, and nobody bills again what a draft
bills. Deleting it, or voiding an invoice, makes what it billed billable again, unless it is voided for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from typing import Final

import msgspec
from ulid import ULID

from rating.periods import Cadence, add_duration
from sinks.postgres.statements import statement
from tollway.invoicing.lines import unbilled
from tollway.invoicing.model import (
    ActionNotAvailable,
    Invoice,
    InvoiceCustomer,
    InvoiceStatus,
    Line,
    NothingBillable,
    Totals,
)
from tollway.invoicing.purchases import purchases
from tollway.invoicing.stored import find_invoice, insert
from tollway.ledger_reads import Connection, CustomerHead, find_customer, rows

GATHERING_PREFIX: Final = "gathering-"
"""The id of a gathering invoice is this and the customer's id: it is never stored."""

DRAFT_PREFIX: Final = "DRAFT-"
"""The number of a draft is this and its id; it gets a number of its own when it is issued."""

DUE_AFTER: Final = "P30D"
"""From its issue until an invoice is due."""


def gathering(
    connection: Connection, customer: str, as_of: datetime | None = None, *, progressive: bool = True
) -> Invoice:
    """
    What the next invoice would bill, worked out from the ledger as it is now.

    Args:
        connection: Is read on.
        customer: Id or key.
        as_of: Only periods that began before; None for all.
        progressive: Whether also periods that still run, or else only those that are over and fees that are due.

    Raises:
        NotFound: There is no such customer.
        LedgerIncomplete: Some of the customer's charges are missing.
    """
    head = find_customer(connection, customer)
    invoice_id = f"{GATHERING_PREFIX}{head.id}"
    numbers = count(1)
    lines = _lines(connection, head, as_of, progressive, lambda: f"{invoice_id}-{next(numbers)}")
    return _invoice(head, lines, invoice_id, "GATHERING", InvoiceStatus.GATHERING, as_of, head.read_at)


def gatherings(
    connection: Connection, customers: Sequence[str], limit: int | None = None, offset: int = 0
) -> tuple[list[Invoice], int]:
    """
    What the next invoices would bill: of some customers by id or key, or of all, by their keys.

    Returns:
        One invoice for each customer with something to bill, and how many such customers there are. Where none is
        named, those with nothing but changes below the minor unit are counted, though they have no invoice.

    Raises:
        NotFound: A customer that is named is not there.
        LedgerIncomplete: Some charges are missing.
    """
    if customers:
        heads = {head.id: head for head in (find_customer(connection, name) for name in customers)}
        found = [gathering(connection, head.id) for head in sorted(heads.values(), key=lambda head: head.key)]
        billable = [invoice for invoice in found if invoice.lines]
        return billable[offset:][:limit], len(billable)
    values = {"customer_ids": None, "limit": limit, "offset": offset}
    page = rows(connection, "unbilled_customers", values)
    if not page and offset:
        page_before = rows(connection, "unbilled_customers", values | {"limit": 1, "offset": 0})
        return [], page_before[0]["found"] if page_before else 0
    found = [gathering(connection, row["id"]) for row in page]
    return [invoice for invoice in found if invoice.lines], page[0]["found"] if page else 0


def draft(connection: Connection, customer: str, as_of: datetime | None = None, *, progressive: bool = True) -> Invoice:
    """
    Bill, once, all that was not billed yet, on a draft.

    One transaction, or a part of the caller's. Those who draw up for one customer at the same time queue.

    Args:
        connection: Is written on. Its transactions see what others committed meanwhile (`read committed`).
        customer: Id or key.
        as_of: Only periods that began before; of those, all that the ledger has. None for all periods.
        progressive: Whether also periods that still run, or else only those that are over and fees that are due.

    Returns:
        The draft. Its total is 0 if credits cover it all, and below 0 if it gives back.

    Raises:
        NotFound: There is no such customer.
        NothingBillable: Nothing has changed since the last invoice.
        LedgerIncomplete: Some of the customer's charges are missing.
    """
    assert as_of is None or as_of.tzinfo is not None, "an instant without an offset is none"
    head = find_customer(connection, customer)
    with connection.transaction():
        # 1. From here on nobody else bills this customer.
        _lock(connection, head.id)
        # 2. What others have billed is read after the lock, so all of it is there.
        lines = _lines(connection, head, as_of, progressive, lambda: str(ULID()))
        if not any(line.children for line in lines):
            raise NothingBillable(head.key)
        (clock,) = rows(connection, "clock", {})
        invoice_id = str(ULID())
        number = f"{DRAFT_PREFIX}{invoice_id}"
        found = _invoice(head, lines, invoice_id, number, InvoiceStatus.DRAFT, as_of, clock["now"])
        # 3. The next invoice goes on from these lines: they come with the invoice, or not at all.
        insert(connection, found)
    return found


def draw_up(connection: Connection, customer: str, as_of: datetime | None = None) -> Invoice:
    """Draw up a draft, and issue it at once, in one transaction. As for `draft`."""
    with connection.transaction():
        return approve(connection, draft(connection, customer, as_of).id)


def advance(connection: Connection, reference: str) -> Invoice:
    """
    Let a draft wait for its approval.

    Raises:
        NotFound: There is no invoice with this id or number.
        ActionNotAvailable: It does already, or is no draft.
    """
    found = find_invoice(connection, reference)
    with connection.transaction():
        _lock(connection, found.customer.id)
        if not rows(connection, "advance_invoice", {"id": found.id}):
            raise ActionNotAvailable(found.number, "advance", find_invoice(connection, found.id).status)
    return find_invoice(connection, found.id)


def approve(connection: Connection, reference: str) -> Invoice:
    """
    Issue a draft: it gets its number, and is due `DUE_AFTER` from now.

    Raises:
        NotFound: There is no invoice with this id or number.
        ActionNotAvailable: It is no draft any more.
    """
    found = find_invoice(connection, reference)
    with connection.transaction():
        _lock(connection, found.customer.id)
        standing = find_invoice(connection, found.id)
        if standing.status is not InvoiceStatus.DRAFT:
            raise ActionNotAvailable(standing.number, "approve", standing.status)
        # A number is drawn only for an invoice that will be.
        (drawn,) = rows(connection, "next_invoice_number", {})
        issued_at = drawn["issued_at"]
        issued = msgspec.structs.replace(
            standing,
            status=InvoiceStatus.ISSUED,
            number=f"INV-{issued_at.year}-{drawn['number']:06}",
            issued_at=issued_at,
            updated_at=issued_at,
            due_at=add_duration(issued_at, Cadence.parse(DUE_AFTER)),
        )
        values = {"id": issued.id, "number": issued.number, "issued_at": issued_at, "due_at": issued.due_at}
        assert rows(connection, "approve_invoice", values), "the customer is locked, so the draft is still one"
    return issued


def void(connection: Connection, reference: str, *, discard: bool | None = None) -> Invoice:
    """
    Take an invoice back: what it billed is billable again. Voiding it once more changes nothing.

    Args:
        connection: Is written on.
        reference: Id or number, of a draft too.
        discard: What it billed is never billed again. None: nothing is said, and it is billable again.

    Raises:
        NotFound: There is no invoice with this id or number.
        ActionNotAvailable: It was voided before, and something else became of what it billed.
    """
    found = find_invoice(connection, reference)
    with connection.transaction():
        _lock(connection, found.customer.id)
        connection.execute(statement("void_invoice"), {"id": found.id, "discard": bool(discard)})
    voided = find_invoice(connection, found.id)
    if discard not in (None, voided.discarded):
        became = "never billed again" if voided.discarded else "billable again"
        raise ActionNotAvailable(voided.number, "void", f"{voided.status}: what it billed is {became}")
    return voided


def delete(connection: Connection, reference: str) -> None:
    """
    Delete a draft: what it would have billed is billable again.

    Raises:
        NotFound: There is no invoice with this id or number.
        ActionNotAvailable: It is no draft any more; an invoice that was issued can be voided.
    """
    found = find_invoice(connection, reference)
    with connection.transaction():
        _lock(connection, found.customer.id)
        if not rows(connection, "delete_draft", {"id": found.id}):
            raise ActionNotAvailable(found.number, "delete", find_invoice(connection, found.id).status)


def invoice(connection: Connection, reference: str) -> Invoice:
    """The invoice with an id or a number; a gathering invoice has an id too. Raises `NotFound`."""
    if reference.startswith(GATHERING_PREFIX):
        return gathering(connection, reference.removeprefix(GATHERING_PREFIX))
    return find_invoice(connection, reference)


def _lines(
    connection: Connection, head: CustomerHead, as_of: datetime | None, progressive: bool, new_id: Callable[[], str]
) -> tuple[Line, ...]:
    """The lines that the next invoice has: of charges first, then of grants to be paid for."""
    charged = unbilled(connection, head, as_of, new_id, ended_by=None if progressive else as_of or head.read_at)
    return (*charged, *purchases(connection, head, as_of, new_id))


def _lock(connection: Connection, customer_id: str) -> None:
    """Queue for the customer until the end of the transaction."""
    (found,) = rows(connection, "lock_customer", {"customer_id": customer_id})
    isolation = found["isolation"]
    # Any other would go on seeing what it saw before it queued, and bill the same usage again.
    assert isolation == "read committed", f"expected a transaction that is `read committed`, got `{isolation}`"


def _invoice(
    head: CustomerHead,
    lines: tuple[Line, ...],
    invoice_id: str,
    number: str,
    status: InvoiceStatus,
    as_of: datetime | None,
    created_at: datetime,
) -> Invoice:
    return Invoice(
        id=invoice_id,
        number=number,
        status=status,
        customer=InvoiceCustomer(head.id, head.key, head.name),
        currency=head.currency,
        totals=Totals.sum(line.totals for line in lines),
        period_start=min((line.period_start for line in lines), default=None),
        period_end=max((line.period_end for line in lines), default=None),
        as_of=as_of or created_at,
        created_at=created_at,
        updated_at=created_at,
        issued_at=None,
        voided_at=None,
        lines=lines,
    )
