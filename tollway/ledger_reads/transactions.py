"""
Credit transactions: how credits came and went, and what was left after each movement.

Rows of the ledger are absolute, so what reads like a history is derived from them each time anew, and adds up
to the balance by construction.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec import Struct

from tollway.ledger_reads.customers import find_customer
from tollway.ledger_reads.grants import CreditGrant, GrantStatus, credit_grants
from tollway.ledger_reads.statements import Connection, rows


class TransactionType(StrEnum):
    """What moved credits, in the order in which movements of one instant are listed."""

    FUNDED = "funded"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    VOIDED = "voided"


class AvailableBalance(Struct, frozen=True):
    """All that the customer's active grants could pay, before and after a movement."""

    before: Decimal
    after: Decimal


class CreditTransaction(Struct, frozen=True):
    """A movement of credits. Ids sort as the movements do: by instant, then by type, then by grant."""

    id: str
    type: TransactionType
    grant_id: str
    name: str
    """The grant's."""
    feature_key: str | None
    """What was paid for; None also for a fee of the plan itself."""
    window_start: datetime | None
    """The window whose usage was paid for."""
    booked_at: datetime
    currency: str
    amount: Decimal
    """Above 0 for what came, below 0 for what went."""
    available_balance: AvailableBalance


def credit_transactions(
    connection: Connection,
    customer: str,
    *,
    at: datetime | None = None,
    cursor: str | None = None,
    limit: int | None = None,
    newest_first: bool = False,
    kind: TransactionType | None = None,
    feature_key: str | None = None,
) -> list[CreditTransaction]:
    """
    How the customer's credits came and went, by instant, then by type, then by grant.

    What a grant paid is one movement for each feature and window. A grant that is still pending has none. The
    last balance is the sum of what the active grants have available.

    Args:
        connection: Is read on.
        customer: Id or key.
        at: The instant as of which grants are pending or expired; None for now.
        cursor: The id after which to go on, in the order that is asked for.
        limit: How many at most.
        newest_first: Whether to list backwards.
        kind: Only movements of this type.
        feature_key: Only what was paid for this feature.

    Raises:
        NotFound: There is no such customer.
    """
    head = find_customer(connection, customer)
    grants = [
        grant
        for grant in credit_grants(connection, head.id, at=at or head.read_at)
        if grant.status is not GrantStatus.PENDING
    ]
    moves = [move for grant in grants for move in _moves(grant)]
    values = {
        "customer_id": head.id,
        "grant_ids": [grant.id for grant in grants],
        "names": [grant.name for grant in grants],
        "funded_at": [grant.funded_at for grant in grants],
        "moved": [grant.id for grant, *_ in moves],
        "types": [str(kind) for _, kind, *_ in moves],
        "booked_at": [booked_at for *_, booked_at, _ in moves],
        "amounts": [amount for *_, amount in moves],
        "cursor": cursor,
        "limit": limit,
        "newest_first": newest_first,
        "type": None if kind is None else kind.value,
        "feature_key": feature_key,
    }
    return [
        msgspec.convert(
            row | {"currency": head.currency, "available_balance": AvailableBalance(row["before"], row["after"])},
            CreditTransaction,
        )
        for row in rows(connection, "credit_transactions", values)
    ]


def _moves(grant: CreditGrant) -> list[tuple[CreditGrant, TransactionType, datetime, Decimal]]:
    """What moved of a grant, other than by paying; a grant never ends before it was there."""
    funded_at = grant.funded_at
    moves = [(grant, TransactionType.FUNDED, funded_at, grant.amount)]
    if grant.voided:
        moves.append((grant, TransactionType.VOIDED, max(grant.voided_at or funded_at, funded_at), -grant.voided))
    if grant.expired:
        moves.append((grant, TransactionType.EXPIRED, max(grant.expires_at or funded_at, funded_at), -grant.expired))
    return moves
