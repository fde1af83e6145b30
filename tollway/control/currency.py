"""The currency of a customer that was made without one."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from rating.catalog import Customer
from tollway.control.transaction import Transaction

DEFAULT_CURRENCY: Final = "USD"


def in_currency(changes: Transaction, customer: Customer, currency: str) -> Customer:
    """The customer, in a currency that it is to have dealings in, if nobody has chosen another for it yet."""
    if currency == customer.currency or not customer.currency_open or changes.has_dealings(customer.id):
        return customer
    customer = replace(customer, currency=currency, currency_open=False, recorded_at=changes.now())
    changes.record(customer)
    return customer
