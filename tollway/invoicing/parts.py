"""
Charges of billing periods within which a subscription moved: each part of the period is a charge of its own.

A later part is priced from what the parts before it had come to, and the minimum, which the last one has, counts all of
them. The ledger has what each came to; what a part began at follows from the charges before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from rating.catalog import Catalog, Placement
from rating.details import Detail, continued_details, details
from rating.money import ZERO
from rating.prices import Flat, Pricing
from tollway.invoicing.pricing import priced_by
from tollway.ledger_reads import Charge, ChargeStatus

PeriodKey = tuple[str, str, datetime]
"""A billing period of a customer: subscription, rate card, start."""


class Before(NamedTuple):
    """What the parts of a billing period before a charge had come to."""

    usage: Decimal
    exact: Decimal
    """What they cost, without a minimum."""
    minor: Decimal
    """The same as invoices show it."""


def key_of(charge: Charge) -> PeriodKey:
    """The key of the charge's period."""
    return charge.subscription_id, charge.card_key, charge.period_start


def before_parts(catalog: Catalog, charges: Sequence[Charge]) -> dict[PeriodKey, Before]:
    """
    What those of a customer's charges begin at that go on from an earlier part of their period.

    Args:
        catalog: What priced them.
        charges: All of the customer's.
    """
    found: dict[PeriodKey, Before] = {}
    for charge in sorted(charges, key=lambda charge: charge.period_start):
        placement = _placement(catalog, charge)
        if placement is None or not placement.goes_on:
            continue
        usage = exact = minor = ZERO
        for other in charges:
            if (other.subscription_id, other.card_key) == (
                charge.subscription_id,
                charge.card_key,
            ) and placement.counted.start <= other.period_start < charge.period_start:
                usage += other.usage
                exact += other.amount
                _, pricing = priced_by(catalog, other)
                rows = details_of(other, pricing, found.get(key_of(other)))
                minor += sum((row.rounded for row in rows), ZERO)
        found[key_of(charge)] = Before(usage, exact, minor)
    return found


def period_end(catalog: Catalog, charge: Charge) -> datetime:
    """Where the whole period of a charge ends, all of its parts together."""
    placement = _placement(catalog, charge)
    return charge.period_end if placement is None else max(charge.period_end, placement.ends)


def details_of(charge: Charge, pricing: Pricing, before: Before | None) -> list[Detail]:
    """All details of a charge as the ledger has it."""
    # A fee is in the ledger from when it is due, and for one in arrears that is before the period closes.
    is_due = isinstance(pricing.price, Flat) or charge.status is ChargeStatus.CLOSED
    if before is None:
        return details(pricing, charge.usage, None, is_due)
    return continued_details(pricing, before.usage, charge.usage, (before.exact, before.minor), is_due)


def _placement(catalog: Catalog, charge: Charge) -> Placement | None:
    subscription = catalog.subscriptions[charge.customer_id][charge.subscription_id]
    return catalog.placement(subscription, charge.card_key, charge.period_start) if subscription.moves else None
