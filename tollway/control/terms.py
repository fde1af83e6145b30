"""
What holds of subscriptions at an instant: which one is in force, which is planned, which never came to be.

A subscription that was ended before it began has its end where its start is: it never was.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from rating.catalog import Subscription

SubscriptionStatus = Literal["scheduled", "active", "canceled", "inactive"]


def never_was(held: Subscription) -> bool:
    """Whether a subscription was ended before it began."""
    return held.active_to is not None and held.active_to <= held.active_from


def goes_on(held: Subscription, now: datetime) -> bool:
    """Whether a subscription is in force at an instant, or is to begin later."""
    return not never_was(held) and (held.active_to is None or held.active_to > now)


def is_planned(held: Subscription, now: datetime) -> bool:
    """Whether a subscription begins only after an instant."""
    return held.active_from > now and not never_was(held)


def status_at(held: Subscription, now: datetime) -> SubscriptionStatus:
    """What is said of a subscription at an instant: scheduled, active, canceled (it ends later) or inactive."""
    if never_was(held):
        return "inactive"
    if held.active_from > now:
        return "scheduled"
    if held.active_to is None:
        return "active"
    return "canceled" if held.active_to > now else "inactive"


def in_force(held: Iterable[Subscription], now: datetime) -> Subscription | None:
    """Of a customer's subscriptions the one that is in force at an instant; there is one at most."""
    current = [one for one in held if one.active_from <= now and goes_on(one, now)]
    return max(current, key=lambda one: (one.active_from, one.id), default=None)


def planned(held: Iterable[Subscription], now: datetime) -> list[Subscription]:
    """Of a customer's subscriptions those that are to begin after an instant, the next one first."""
    return sorted((one for one in held if is_planned(one, now)), key=lambda one: (one.active_from, one.id))
