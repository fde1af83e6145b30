"""
Subscriptions: who is on which version of a plan, from when to when.

A customer has one subscription at a time: a new one ends the one before in the instant in which it starts.
What has begun stays as it was; only its end can be set, and only to come sooner.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from rating.catalog import Customer, Subscription
from tollway.control.checks import KEY_LENGTH_MAX, check_text, instant_text, utc_instant
from tollway.control.currency import in_currency
from tollway.control.drafts import SubscriptionDraft
from tollway.control.errors import conflict
from tollway.control.transaction import Transaction


def subscribe(changes: Transaction, customer: Customer | str, draft: SubscriptionDraft) -> Subscription:
    """
    Subscribe a customer to a plan; the subscription it has ends where the new one starts.

    A draft whose key has a subscription with the same terms changes nothing: that one is returned.
    """
    if isinstance(customer, str):
        customer = changes.customer(customer)
    known = same_subscription(changes, customer, draft)
    if known is not None:
        return known
    plan = changes.plan(draft.plan, draft.version, "plan")
    now = utc_instant(changes.now(), "now")
    start = now if draft.active_from is None else utc_instant(draft.active_from, "active_from")
    anchor = start if draft.anchor is None else utc_instant(draft.anchor, "anchor")
    customer = in_currency(changes, customer, plan.currency)
    if plan.currency != customer.currency:
        what = f"expected a plan in `{customer.currency}`, the customer's currency, got `{plan.currency}`"
        hint = "choose another plan, or publish this one in the customer's currency under another key"
        raise conflict("plan", what, hint)
    ended = _ended_at(changes, customer, start, now)
    subscription = Subscription(
        id=changes.identify(now, "subscription", customer.id, draft.key or "", instant_text(start)),
        customer_id=customer.id,
        plan_key=plan.key,
        plan_version=plan.version,
        active_from=start,
        anchor=anchor,
        recorded_at=now,
        settlement_mode=draft.settlement_mode or plan.settlement_mode,
    )
    for changed in (*ended, subscription):
        changes.record(changed)
    if draft.key is not None:
        changes.give_key(draft.key, subscription)
    return subscription


def _ended_at(changes: Transaction, customer: Customer, start: datetime, now: datetime) -> list[Subscription]:
    """The subscriptions of a customer that a new one ends. Raises `ControlError` if it can't end one."""
    ended = []
    for other in changes.subscriptions(customer.id).values():
        if other.active_to is not None and other.active_to <= max(start, other.active_from):
            continue
        if other.active_from > start or (other.active_from == start and start < now):
            other_start = instant_text(other.active_from)
            what = f"expected a start after {other_start}, that of subscription `{other.id}`, got {instant_text(start)}"
            raise conflict("active_from", what, "start later, or cancel that subscription first")
        ended.append(replace(other, active_to=start))
    return ended


def same_subscription(changes: Transaction, customer: Customer, draft: SubscriptionDraft) -> Subscription | None:
    """The subscription that has the draft's key, if it goes on and all the draft says holds of it."""
    changes.plan(draft.plan, draft.version, "plan")
    if draft.key is None:
        return None
    check_text(draft.key, "key", KEY_LENGTH_MAX)
    held = changes.subscription_by_key(customer.id, draft.key)
    if held is None or held.plan_key != draft.plan:
        return None
    if held.active_to is not None and held.active_to <= changes.now():
        return None
    plan = changes.plan(held.plan_key, held.plan_version, "plan")
    wanted = replace(
        held,
        plan_version=draft.version or held.plan_version,
        active_from=draft.active_from or held.active_from,
        anchor=draft.anchor or held.anchor,
        settlement_mode=draft.settlement_mode or plan.settlement_mode,
    )
    return held if held == wanted else None


def cancel_subscription(changes: Transaction, subscription_id: str, at: datetime | None = None) -> Subscription:
    """End a subscription at an instant, None for now; before its start, it never comes to be."""
    subscription = changes.subscription(subscription_id)
    end = max(utc_instant(at or changes.now(), "at"), subscription.active_from)
    if subscription.active_to is not None and subscription.active_to <= end:
        if subscription.active_to == end:
            return subscription
        ends = instant_text(subscription.active_to)
        what = f"expected an instant up to {ends}, when it ends, got {instant_text(end)}"
        raise conflict("at", what, "subscribe the customer anew")
    ended = replace(subscription, active_to=end)
    changes.record(ended)
    return ended
