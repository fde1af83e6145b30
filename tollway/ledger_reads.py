"""
The ledger as people and programs read it: balances, charges, credits, signals, events that were not rated.

Amounts are exact decimals in the customer's currency, instants are in UTC. Rows of the ledger are absolute,
so what reads like a history, the credit transactions, is derived from them each time anew, and adds up to the
balance by construction. Each function reads on the connection that it is given, whatever its transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from msgspec import Struct
from psycopg.rows import dict_row

from rating.catalog import Grant, decode_record
from rating.money import ZERO, use_exact

Connection = psycopg.Connection[Any]

_SQL: Final = Path(__file__).parent / "sql"
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
_SHOWN_LENGTH_MAX: Final = 256

T = TypeVar("T", bound=Struct)


class NotFound(LookupError):
    """
    Something asked for by name that is not there.

    Attributes:
        message: What was looked for.
        hint: What to do instead.
    """

    def __init__(self, kind: str, name: str, hint: str) -> None:
        self.message = f"there is no {kind} `{name[:_SHOWN_LENGTH_MAX]}`"
        self.hint = hint
        super().__init__(f"{self.message}\nhint: {hint}")


class ChargeStatus(StrEnum):
    """Whether a billing period still takes usage."""

    ACTIVE = "active"
    CLOSED = "closed"


class GrantStatus(StrEnum):
    """Whether a grant can pay, in order of precedence: of several, the first listed holds."""

    VOIDED = "voided"
    EXPIRED = "expired"
    PENDING = "pending"
    ACTIVE = "active"


class TransactionType(StrEnum):
    """What moved credits, in the order in which movements of one instant are listed."""

    FUNDED = "funded"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    VOIDED = "voided"


class CustomerHead(Struct, frozen=True):
    """Who is meant, and when that was read, by the database's clock."""

    id: str
    key: str
    name: str
    currency: str
    read_at: datetime


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


class ChargeWindow(Struct, frozen=True):
    """What one window brought of a charge: below 0 where more usage made the period cheaper."""

    window_start: datetime
    quantity: Decimal
    late_quantity: Decimal
    """The part of `quantity` that came too late for the window of its time."""
    events: int
    amount: Decimal
    commitment: Decimal
    credits: Decimal
    uncovered: Decimal
    revision: int


class Charge(Struct, frozen=True):
    """
    What one rate card came to in one billing period so far.

    ``amount + commitment == credits + uncovered``.
    """

    customer_id: str
    subscription_id: str
    card_key: str
    feature_key: str | None
    """None: a fee of the plan itself."""
    period_start: datetime
    period_end: datetime
    full_start: datetime
    full_end: datetime
    """The whole period of the cadence, where the service period is shorter."""
    currency: str
    settlement_mode: str
    status: ChargeStatus
    usage: Decimal
    """In the meter's unit."""
    events: int
    amount: Decimal
    """After discounts and the maximum."""
    commitment: Decimal
    """What the minimum added when the period closed."""
    credits: Decimal
    uncovered: Decimal
    revision: int
    windows: tuple[ChargeWindow, ...] = ()


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


class SignalRecord(Struct, frozen=True):
    """A signal as it was raised; `id` is its entry in the signal stream."""

    id: str
    customer_id: str
    customer_key: str
    sequence: int
    kind: str
    feature_key: str
    reason: str
    live: Decimal
    revision: int
    raised_at: datetime


class ParkedEvent(Struct, frozen=True):
    """An event that waits for the catalog, with its bytes."""

    source: str
    id: str
    reason: str
    message: str
    subject: str
    customer_id: str | None
    event_time: datetime
    control_version: int
    """It waits for a later entry of the control log than this one."""
    parked_at: datetime
    raw: bytes


class DeadLetter(Struct, frozen=True):
    """An event that will never be rated: why, where in it, and its bytes."""

    digest: str
    """SHA-256 of the bytes, in hexadecimal."""
    reason: str
    message: str
    path: str
    recorded_at: datetime
    raw: bytes


def find_customer(connection: Connection, customer: str) -> CustomerHead:
    """The customer with an id, or else with a key. Raises `NotFound`."""
    found = rows(connection, "find_customer", {"customer": customer}) if is_storable(customer) else []
    if not found:
        raise NotFound("customer", customer, "name it by its id or key; `GET /api/v1/customers` lists them all")
    return msgspec.convert(found[0], CustomerHead)


def balance(connection: Connection, customer: str) -> Balance:
    """What the customer has left: 0, and allowed, as long as the dataflow has not told. Raises `NotFound`."""
    head = find_customer(connection, customer)
    for found in structs(connection, "balance", {"customer_id": head.id}, Balance):
        return found
    return Balance(head.id, head.key, head.currency, head.read_at)


def charges(
    connection: Connection,
    customer: str,
    *,
    feature_key: str | None = None,
    status: ChargeStatus | None = None,
    windows: bool = False,
) -> list[Charge]:
    """
    What the customer used and was charged, by rate card and billing period, oldest period first.

    Args:
        connection: Is read on.
        customer: Id or key.
        feature_key: Only what this feature came to.
        status: Only periods that are active, or closed.
        windows: Whether each charge carries its windows.

    Raises:
        NotFound: There is no such customer.
    """
    values = {
        "customer_id": find_customer(connection, customer).id,
        "feature_key": feature_key,
        "closed": None if status is None else status is ChargeStatus.CLOSED,
    }
    if not windows:
        return structs(connection, "charges", values, Charge)
    by_period: dict[tuple[Any, ...], list[ChargeWindow]] = {}
    for row in rows(connection, "charge_windows", values):
        key = row["subscription_id"], row["card_key"], row["period_start"]
        by_period.setdefault(key, []).append(msgspec.convert(row, ChargeWindow))
    return [
        msgspec.structs.replace(
            charge,
            windows=tuple(by_period.get((charge.subscription_id, charge.card_key, charge.period_start), ())),
        )
        for charge in structs(connection, "charges", values, Charge)
    ]


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
    return [_position(grant, consumed, at or head.read_at) for grant, consumed in found]


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


def signals(
    connection: Connection, customer: str, *, kind: str | None = None, limit: int | None = 100
) -> list[SignalRecord]:
    """What the customer was signalled, newest first, all or of one kind. Raises `NotFound`."""
    values = {"customer_key": find_customer(connection, customer).key, "kind": kind, "limit": limit}
    return structs(connection, "signals", values, SignalRecord)


def parked(
    connection: Connection,
    *,
    reason: str | None = None,
    customer: str | None = None,
    limit: int | None = 100,
) -> list[ParkedEvent]:
    """Events that wait, newest first, all or those of one reason or customer. Raises `NotFound`."""
    customer_id = None if customer is None else find_customer(connection, customer).id
    values = {"reason": reason, "customer_id": customer_id, "limit": limit}
    return structs(connection, "parked_events", values, ParkedEvent)


def dead_letters(connection: Connection, *, reason: str | None = None, limit: int | None = 100) -> list[DeadLetter]:
    """Events that were refused, newest first, all or those of one reason."""
    return structs(connection, "dead_letters", {"reason": reason, "limit": limit}, DeadLetter)


def is_storable(text: str) -> bool:
    """Whether the database can hold a text, and so may have it."""
    return _UNSTORABLE.search(text) is None


def rows(connection: Connection, name: str, values: Mapping[str, object]) -> list[dict[str, Any]]:
    """The rows of the statement `sql/<name>.sql`, instants in UTC."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement(name), values)
        found = cursor.fetchall()
    return [{column: _utc(value) for column, value in row.items()} for row in found]


def structs(connection: Connection, name: str, values: Mapping[str, object], kind: type[T]) -> list[T]:
    """The rows of the statement `sql/<name>.sql`, as structs."""
    return [msgspec.convert(row, kind) for row in rows(connection, name, values)]


@cache
def statement(name: str) -> bytes:
    """The text of `sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_bytes()


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
