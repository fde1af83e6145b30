"""
The naive oracle: rates a de-duplicated list of events in a plain loop, with fractions and no shared code.

Knows only what the worlds in these tests use: SUM and COUNT meters, unit, graduated, volume and package prices,
months that begin on one of the days that each month has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any


def price_of(price: dict[str, Any], usage: Fraction) -> Fraction:
    """What a usage costs under a price in its snake_case form."""
    match price["type"]:
        case "unit":
            return usage * Fraction(price["amount"])
        case "package":
            return ceil(usage / Fraction(price["quantity_per_package"])) * Fraction(price["amount"])
        case "graduated":
            cost, below = Fraction(0), Fraction(0)
            for tier in price["tiers"]:
                top = Fraction(tier["up_to_amount"]) if tier.get("up_to_amount") is not None else None
                if usage > below or below == 0:
                    cost += Fraction(tier.get("flat_price") or 0)
                inside = (usage if top is None else min(usage, top)) - below
                cost += max(inside, Fraction(0)) * Fraction(tier.get("unit_price") or 0)
                if top is None or usage <= top:
                    break
                below = top
            return cost
        case "volume":
            for tier in price["tiers"]:
                if tier.get("up_to_amount") is None or usage <= Fraction(tier["up_to_amount"]):
                    return usage * Fraction(tier.get("unit_price") or 0) + Fraction(tier.get("flat_price") or 0)
    raise AssertionError(price)


class Bill:
    """Usage and cost of each customer, feature and month."""

    def __init__(self) -> None:
        self.usage: dict[tuple[str, str, datetime], Fraction] = defaultdict(Fraction)
        self.events: dict[str, int] = defaultdict(int)
        self.rated = self.duplicates = 0

    def amounts(self, prices: dict[str, dict[str, Any]]) -> dict[tuple[str, str, datetime], Fraction]:
        """What each came to."""
        return {key: price_of(prices[key[1]], usage) for key, usage in self.usage.items()}

    def charged(self, prices: dict[str, dict[str, Any]]) -> dict[str, Fraction]:
        """What each customer came to."""
        totals: dict[str, Fraction] = defaultdict(Fraction)
        for (customer, _, _), amount in self.amounts(prices).items():
            totals[customer] += amount
        return totals


def month_of(at: datetime, first_day: int) -> datetime:
    """When the month of an instant began."""
    before = at if at.day >= first_day else at.replace(day=1) - timedelta(days=1)
    return before.replace(day=first_day, hour=0, minute=0, second=0, microsecond=0)


def rate(
    events: Iterable[dict[str, Any]],
    customer_by_subject: dict[str, str],
    features: dict[str, tuple[str, str | None, dict[str, str]]],
    first_day: int = 1,
) -> Bill:
    """
    Rate events.

    Args:
        events: CloudEvents as objects, with numbers that are exact.
        customer_by_subject: Whose usage a subject's is.
        features: By key: event type, the field of `data` to sum (None: count), and the fields that must match.
        first_day: The day of a month with which each month begins, at midnight.
    """
    bill = Bill()
    seen: set[tuple[str, str]] = set()
    for event in events:
        identity = (event["source"], event["id"])
        if identity in seen:
            bill.duplicates += 1
            continue
        seen.add(identity)
        bill.rated += 1
        at = datetime.fromisoformat(event["time"]).astimezone(UTC)
        month = month_of(at, first_day)
        customer = customer_by_subject[event["subject"]]
        bill.events[customer] += 1
        for feature, (event_type, field, filters) in features.items():
            if event["type"] == event_type and all(event["data"].get(k) == v for k, v in filters.items()):
                value = Fraction(1) if field is None else Fraction(Decimal(str(event["data"][field])))
                bill.usage[customer, feature, month] += value
    return bill
