"""Drawing invoices up, and taking them back: one customer at a time, each in one transaction."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Final

from ulid import ULID

from tollway.invoicing.lines import unbilled
from tollway.invoicing.model import (
    Invoice,
    InvoiceCustomer,
    InvoiceStatus,
    Line,
    NothingBillable,
    Totals,
)
from tollway.invoicing.stored import find_invoice, insert
from tollway.ledger_reads import Connection, CustomerHead, find_customer, rows, statement

GATHERING_PREFIX: Final = "gathering-"
"""The id of a gathering invoice is this and the customer's id: it is never stored."""


def gathering(connection: Connection, customer: str, as_of: datetime | None = None) -> Invoice:
    """
    What the next invoice would bill, worked out from the ledger as it is now.

    Args:
        connection: Is read on.
        customer: Id or key.
        as_of: Only periods that began before; None for all.

    Raises:
        NotFound: There is no such customer.
        LedgerIncomplete: Some of the customer's charges are missing.
    """
    head = find_customer(connection, customer)
    invoice_id = f"{GATHERING_PREFIX}{head.id}"
    numbers = count(1)
    lines = tuple(unbilled(connection, head, as_of, lambda: f"{invoice_id}-{next(numbers)}"))
    return _invoice(head, lines, invoice_id, "GATHERING", InvoiceStatus.GATHERING, as_of or head.read_at)


def draw_up(connection: Connection, customer: str, as_of: datetime | None = None) -> Invoice:
    """
    Bill, once, all that was not billed yet.

    One transaction, or a part of the caller's. Those who draw up for one customer at the same time queue.

    Args:
        connection: Is written on. Its transactions see what others committed meanwhile (`read committed`).
        customer: Id or key.
        as_of: Only periods that began before; of those, all that the ledger has. None for all periods.

    Returns:
        The invoice, issued. Its total is 0 if credits cover it all, and below 0 if it gives back.

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
        lines = tuple(unbilled(connection, head, as_of, lambda: str(ULID())))
        if not any(line.children for line in lines):
            raise NothingBillable(head.key)
        # 3. A number is drawn only for an invoice that will be.
        (drawn,) = rows(connection, "next_invoice_number", {})
        issued_at = drawn["issued_at"]
        number = f"INV-{issued_at.year}-{drawn['number']:06}"
        found = _invoice(head, lines, str(ULID()), number, InvoiceStatus.ISSUED, as_of or issued_at, issued_at)
        # 4. The next invoice goes on from these lines: they come with the invoice, or not at all.
        insert(connection, found)
    return found


def void(connection: Connection, reference: str) -> Invoice:
    """
    Take an invoice back: what it billed is billable again. Voiding it once more changes nothing.

    Raises:
        NotFound: There is no invoice with this id or number.
    """
    found = find_invoice(connection, reference)
    with connection.transaction():
        _lock(connection, found.customer.id)
        connection.execute(statement("void_invoice"), {"id": found.id})
    return find_invoice(connection, found.id)


def invoice(connection: Connection, reference: str) -> Invoice:
    """The invoice with an id or a number; a gathering invoice has an id too. Raises `NotFound`."""
    if reference.startswith(GATHERING_PREFIX):
        return gathering(connection, reference.removeprefix(GATHERING_PREFIX))
    return find_invoice(connection, reference)


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
    as_of: datetime,
    issued_at: datetime | None = None,
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
        as_of=as_of,
        issued_at=issued_at,
        voided_at=None,
        lines=lines,
    )
