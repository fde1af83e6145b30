"""What a customer was charged: by rate card and billing period, and by window where that is asked for."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tollway.ledger_reads.customers import find_customer
from tollway.ledger_reads.statements import Connection, rows, structs


class ChargeStatus(StrEnum):
    """Whether a billing period still takes usage."""

    ACTIVE = "active"
    CLOSED = "closed"


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
        replace(
            charge,
            windows=tuple(by_period.get((charge.subscription_id, charge.card_key, charge.period_start), ())),
        )
        for charge in structs(connection, "charges", values, Charge)
    ]
