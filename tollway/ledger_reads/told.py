"""What the dataflow told besides money: signals to customers, and events that were not rated."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from tollway.ledger_reads.customers import find_customer
from tollway.ledger_reads.statements import Connection, structs


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
