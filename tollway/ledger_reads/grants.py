"""
Grants of credits, and what became of them.

A grant's row in the ledger says what it has paid. What it can still pay follows from that, from the grant's
own instants and from the instant that is asked about.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from rating.catalog import Grant, decode_record
from rating.money import ZERO, use_exact
from tollway.ledger_reads.customers import find_customer
from tollway.ledger_reads.statements import Connection, rows


class GrantStatus(StrEnum):
    """Whether a grant can pay, in order of precedence: of several, the first listed holds."""

    VOIDED = "voided"
    EXPIRED = "expired"
    PENDING = "pending"
    ACTIVE = "active"


class CreditGrant(Struct, frozen=True):
    """
    A grant, and what became of it.

    ``amount == available + pending + consumed + expired + voided``.
    """

    id: str
    key: str | None
    name: str
    customer_id: str
    currency: str
    status: GrantStatus
    amount: Decimal
    available: Decimal
    """What it can pay now."""
    pending: Decimal
    """What it will be able to pay from its effective instant on."""
    consumed: Decimal
    expired: Decimal
    voided: Decimal
    priority: int
    features: tuple[str, ...]
    """The features it may pay for; empty: any charge."""
    created_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    voided_at: datetime | None

    @property
    def funded_at(self) -> datetime:
        """When the amount came to count: it was there and effective, or it was voided before that."""
        effective = max(self.created_at, self.effective_at)
        return effective if self.voided_at is None else min(effective, self.voided_at)


def credit_grants(connection: Connection, customer: str, *, at: datetime | None = None) -> list[CreditGrant]:
    """
    All grants the customer ever got, in burn order, with what became of them.

    Args:
        connection: Is read on.
        customer: Id or key.
        at: The instant that tells pending, active and expired apart; None for now.

    Raises:
        NotFound: There is no such customer.
    """
    head = find_customer(connection, customer)
    found = []
    for row in rows(connection, "credit_grants", {"customer_id": head.id}):
        grant = decode_record(row["body"])
        assert isinstance(grant, Grant), "the table of grants holds grants"
        found.append((grant, row["consumed"]))
    found.sort(key=lambda pair: pair[0].burn_order())
    # A grant that was made since the customer was read is there by now.
    now = max([head.read_at, *(grant.created_at for grant, _ in found)])
    return [_position(grant, consumed, at or now) for grant, consumed in found]


def _position(grant: Grant, consumed: Decimal, at: datetime) -> CreditGrant:
    use_exact()
    status = _status(grant, at)
    left = grant.amount - consumed
    return CreditGrant(
        id=grant.id,
        key=grant.key,
        name=grant.name,
        customer_id=grant.customer_id,
        currency=grant.currency,
        status=status,
        amount=grant.amount,
        available=left if status is GrantStatus.ACTIVE else ZERO,
        pending=left if status is GrantStatus.PENDING else ZERO,
        consumed=consumed,
        expired=left if status is GrantStatus.EXPIRED else ZERO,
        voided=left if status is GrantStatus.VOIDED else ZERO,
        priority=grant.priority,
        features=grant.features,
        created_at=grant.created_at,
        effective_at=grant.effective_at,
        expires_at=grant.expires_at,
        voided_at=grant.voided_at,
    )


def _status(grant: Grant, at: datetime) -> GrantStatus:
    if grant.voided_at is not None:
        return GrantStatus.VOIDED
    if grant.expires_at is not None and grant.expires_at <= at:
        return GrantStatus.EXPIRED
    return GrantStatus.PENDING if grant.effective_at > at else GrantStatus.ACTIVE
