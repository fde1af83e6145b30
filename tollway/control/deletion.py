"""
Deleting customers: from an instant on a customer is one no longer, whoever asks.

What it was charged, granted and subscribed to stays in the ledger, and so do its id and its key. Its subjects are
free from then on, its key as a subject included; usage of before is still its own. Nothing is granted to it any
more, and nobody subscribes it; only what is left of a grant may be voided.
"""

from __future__ import annotations

from msgspec.structs import replace

from rating.catalog import Customer
from tollway.control.checks import instant_text, utc_instant
from tollway.control.errors import conflict
from tollway.control.terms import goes_on
from tollway.control.transaction import Transaction


def delete_customer(changes: Transaction, key_or_id: str) -> Customer:
    """Delete a customer, from now on. It may have no subscription that goes on or is to begin."""
    customer = changes.customer(key_or_id)
    check_not_deleted(customer, "id")
    now = utc_instant(changes.now(), "now")
    for held in changes.subscriptions(customer.id).values():
        if goes_on(held, now):
            what = f"expected a customer without a subscription, got `{customer.key}`, which has `{held.id}`"
            raise conflict("id", what, "cancel that subscription first, with the timing `immediate`")
    deleted = replace(customer, subjects=(), recorded_at=now, deleted_at=now)
    changes.record(deleted)
    return deleted


def check_not_deleted(
    customer: Customer, path: str, hint: str = "its ledger stays, and so its key; make a customer with another key"
) -> None:
    """Check that a customer may be changed. Raises `ControlError` with the path that named it, and what to do."""
    if customer.deleted_at is not None:
        what = (
            f"expected a customer that is there, got `{customer.key}`, deleted at {instant_text(customer.deleted_at)}"
        )
        raise conflict(path, what, hint)
