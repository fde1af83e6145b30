"""What the dataflow told besides money: signals to customers, and events that were not rated."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from rating.refusals import ParkCode
from tollway.ledger_reads.customers import find_customer
from tollway.ledger_reads.statements import Connection, rows, streamed, structs


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


CUSTOMERS_MAX = 20
"""So many customers are named with what is unpriced."""


class ParkedEvent(Struct, frozen=True):
    """An event that waits, with its bytes; or, where it names a meter, what of a rated event does."""

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
    received_at: datetime
    """When the event was first received."""
    event_type: str
    meter: str
    """The key of the one meter whose usage waits; empty: the whole event does."""
    dimensions: dict[str, str]
    quantity: Decimal | None
    """What that meter would count, where it is a number that adds up."""
    raw: bytes


class Unpriced(Struct, frozen=True):
    """Usage of one meter with the same dimensions that no feature prices."""

    meter: str
    dimensions: dict[str, str]
    events: int
    quantity: Decimal | None
    """In the meter's unit; None where it does not simply add up, or a value can't be read."""
    since: datetime
    """The time of the first such event."""
    until: datetime
    """And of the last."""
    customer_count: int
    customers: list[str]
    """The keys of the first `CUSTOMERS_MAX` of them."""


class DeadLetter(Struct, frozen=True):
    """An event that will never be rated, or not for one meter: why, where in it, and its bytes."""

    digest: str
    """SHA-256 of the bytes, in hexadecimal."""
    reason: str
    meter: str
    """The key of the meter that it has no value for, where the rest of it was rated; else empty."""
    message: str
    path: str
    recorded_at: datetime
    raw: bytes

    @property
    def event(self) -> EventNames:
        """What the bytes call themselves, as far as they can be read."""
        try:
            said = msgspec.json.decode(self.raw, type=_Said)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return EventNames()
        texts = {name: getattr(said, name) for name in said.__struct_fields__}
        return EventNames(**{name: text for name, text in texts.items() if isinstance(text, str)})


class EventNames(Struct, frozen=True):
    """What an event is called by its sender; empty where that is not there."""

    source: str = ""
    id: str = ""
    subject: str = ""


class _Said(Struct, frozen=True):
    """The same, as it may be where it was refused for just that."""

    source: Any = ""
    id: Any = ""
    subject: Any = ""


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
    parts: bool = False,
    limit: int | None = 100,
) -> list[ParkedEvent]:
    """
    Events that wait, newest first, all or those of one reason or customer. Raises `NotFound`.

    `parts`: not whole events but what of rated ones waits, for one meter each.
    """
    values = {"reason": reason, "customer_id": _id_of(connection, customer), "parts": parts, "limit": limit}
    return structs(connection, "parked_events", values, ParkedEvent)


def parked_counts(connection: Connection, *, customer: str | None = None, parts: bool = False) -> dict[str, int]:
    """How many events wait, by reason in the order of `ParkCode`, all or those of a customer. Raises `NotFound`."""
    found = rows(connection, "parked_counts", {"customer_id": _id_of(connection, customer), "parts": parts})
    by_reason = {row["reason"]: row["events"] for row in found}
    return {code: by_reason[code] for code in map(str, ParkCode) if code in by_reason}


def unpriced(
    connection: Connection, *, customer: str | None = None, meter: str | None = None, limit: int | None = 100
) -> list[Unpriced]:
    """What of rated events no feature prices, the most first, all or of one customer or meter. Raises `NotFound`."""
    values = {
        "customer_id": _id_of(connection, customer),
        "meter": meter,
        "customers_max": CUSTOMERS_MAX,
        "limit": limit,
    }
    return structs(connection, "unpriced", values, Unpriced)


def _id_of(connection: Connection, customer: str | None) -> str | None:
    return None if customer is None else find_customer(connection, customer).id


def dead_letters(
    connection: Connection,
    *,
    reason: str | None = None,
    customer: str | None = None,
    since: datetime | None = None,
    limit: int | None = 100,
) -> list[DeadLetter]:
    """
    Events that were refused, newest first.

    Args:
        connection: Is read on, in autocommit.
        reason: Only those refused for this reason.
        customer: Only those whose subject is one of this customer's now, by its id or key.
        since: Only those recorded from then on.
        limit: How many at most.

    Raises:
        NotFound: There is no such customer.
    """
    values = {"reason": reason, "since": since}
    if customer is None:
        return structs(connection, "dead_letters", values | {"limit": limit}, DeadLetter)
    # Whose an event is stands in its bytes only, which may be anything: they are read one after another.
    subjects = _subjects_of(connection, customer)
    found = (
        letter
        for letter in streamed(connection, "dead_letters", values | {"limit": None}, DeadLetter)
        if letter.event.subject in subjects
    )
    return list(islice(found, limit))


def _subjects_of(connection: Connection, customer: str) -> frozenset[str]:
    """The customer's subjects, and its key. Raises `NotFound`."""
    head = find_customer(connection, customer)
    held = {row["subject"] for row in rows(connection, "subjects_of_customer", {"customer_id": head.id})}
    return frozenset({head.key, *held})
