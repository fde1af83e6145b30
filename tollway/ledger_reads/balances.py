"""What a customer has left, and whether it may go on."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from rating.money import ZERO
from tollway.ledger_reads.customers import find_customer
from tollway.ledger_reads.statements import Connection, structs


class Balance(Struct, frozen=True):
    """
    What a customer has left, and whether it may go on.

    ``funded == settled + pending + consumed + expired + voided`` and ``charged == consumed + uncovered``.
    """

    customer_id: str
    customer_key: str
    currency: str
    as_of: datetime
    funded: Decimal = ZERO
    settled: Decimal = ZERO
    live: Decimal = ZERO
    """Settled, less the overage."""
    pending: Decimal = ZERO
    overage: Decimal = ZERO
    """The part of `uncovered` that the next grant repays."""
    consumed: Decimal = ZERO
    expired: Decimal = ZERO
    voided: Decimal = ZERO
    uncovered: Decimal = ZERO
    charged: Decimal = ZERO
    access: str = "allowed"
    reason: str = ""
    level: int = 0
    """How many low-balance thresholds are crossed, zero itself being the last."""
    threshold: str = ""
    """The lowest threshold crossed; empty when none is."""
    blocked_features: tuple[str, ...] = ()
    revision: int = 0
    """0: the dataflow has not told of this customer yet."""


def balance(connection: Connection, customer: str) -> Balance:
    """What the customer has left: 0, and allowed, as long as the dataflow has not told. Raises `NotFound`."""
    head = find_customer(connection, customer)
    for found in structs(connection, "balance", {"customer_id": head.id}, Balance):
        return found
    return Balance(head.id, head.key, head.currency, head.read_at)
