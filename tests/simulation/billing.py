"""
What an invoice of a whole history has to show, worked out plainly: every detail of a period is rounded once, to cents.

Credits on it come to what credits paid of all periods, rounded once; what they paid in full, and all under
`credit_only`, is never to be paid.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from tests.simulation.plain import Period, Plain, billed, half_up, minimum, tiers_of

ZERO = Fraction(0)
CENTS = 2


def grosses(price: Plain, quantity: Fraction) -> Iterator[Fraction]:
    """What each detail of a period comes to before discounts, in order."""
    match price["type"]:
        case "unit" | "dynamic":
            yield quantity * Fraction(price["amount"])
        case "package":
            yield ceil(quantity / Fraction(price["size"])) * Fraction(price["amount"])
        case "graduated":
            for below, top, unit, flat in tiers_of(price):
                if below == 0 or quantity > below:
                    yield flat
                    yield ((quantity if top is None else min(quantity, top)) - below) * unit
        case "volume":
            for _, top, unit, flat in tiers_of(price):
                if top is None or quantity <= top:
                    yield flat
                    yield quantity * unit
                    return


def net(period: Period) -> Fraction:
    """What a period comes to on an invoice, in whole cents, before credits."""
    card, price = period.card, period.card["price"]
    share = Fraction(card.get("percentage") or 0) / 100
    if price["type"] == "flat":
        amount = half_up(Fraction(price["amount"]) * period.served, 30) if period.served != 1 else price["amount"]
        parts, most = [Fraction(amount)], None
    else:
        parts = list(grosses(price, billed(card, period.usage)))
        most = None if price.get("maximum") is None else half_up(Fraction(price["maximum"]), CENTS)
    total = ZERO
    for part in parts:
        gross = half_up(part, CENTS)
        total += gross - half_up(gross * share, CENTS)
        total = total if most is None else min(total, most)
    if period.is_closed:
        total = max(total, half_up(minimum(card, period.served), CENTS))
    return total
