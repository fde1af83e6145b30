"""
Subscriptions: who is on which version of a plan, from when to when.

A customer has one subscription at a time: a new one ends the one before in the instant in which it starts, and
goes on with its billing anchor. What has begun stays as it was; only its end can be set, only to come sooner, and
never to an instant that has passed: what was rated of then stays rated. A subscription may begin in the past only
where no other one was in force since.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from rating.catalog import Customer, PlanVersion, Subscription
from rating.periods import Cadence
from tollway.control.checks import KEY_LENGTH_MAX, PERIODS_MAX, check_text, instant_text, utc_instant
from tollway.control.currency import in_currency
from tollway.control.deletion import check_not_deleted
from tollway.control.drafts import SubscriptionDraft
from tollway.control.errors import conflict, invalid
from tollway.control.terms import goes_on, in_force, is_planned, never_was, planned
from tollway.control.transaction import Transaction

NOT_PAST_HINT = "write `immediate`, `next_billing_cycle`, or an instant that has not passed"


def subscribe(changes: Transaction, customer: Customer | str, draft: SubscriptionDraft) -> Subscription:
    """
    Subscribe a customer to a plan; the subscription it has ends where the new one starts.

    A draft whose key has a subscription with the same terms changes nothing: that one is returned. Where the draft
    has no anchor, that of the subscription that ends stays, so that the billing day is the one it was.
    """
    if isinstance(customer, str):
        customer = changes.customer(customer)
    check_not_deleted(customer, "customer")
    known = same_subscription(changes, customer, draft)
    if known is not None:
        return known
    plan = changes.plan(draft.plan, draft.version, "plan")
    now = utc_instant(changes.now(), "now")
    start = now if draft.active_from is None else utc_instant(draft.active_from, "active_from")
    anchor = None if draft.anchor is None else utc_instant(draft.anchor, "anchor")
    customer = in_currency(changes, customer, plan.currency)
    if plan.currency != customer.currency:
        what = f"expected a plan in `{customer.currency}`, the customer's currency, got `{plan.currency}`"
        hint = "choose another plan, or publish this one in the customer's currency under another key"
        raise conflict("plan", what, hint)
    _check_periods(plan, start, now)
    ended = _ended_at(changes, customer, start, now)
    subscription = Subscription(
        id=changes.identify(now, "subscription", customer.id, draft.key or "", instant_text(start)),
        customer_id=customer.id,
        plan_key=plan.key,
        plan_version=plan.version,
        active_from=start,
        anchor=anchor or _kept_anchor(changes, ended, start),
        recorded_at=now,
        settlement_mode=draft.settlement_mode or plan.settlement_mode,
    )
    for changed in (*ended, subscription):
        changes.record(changed)
    if draft.key is not None:
        changes.give_key(draft.key, subscription)
    return subscription


def _check_periods(plan: PlanVersion, start: datetime, now: datetime) -> None:
    """That not too many billing periods lie between a start and now: each would have to be looked at."""
    cadences = {
        card.cadence or plan.cadence for phase in plan.phases for card in phase.rate_cards if not card.once
    } or {plan.cadence}
    shortest = min(cadences, key=lambda text: Cadence.parse(text).length)
    length = Cadence.parse(shortest).length
    if now - start > PERIODS_MAX * length:
        what = f"a start from {instant_text(now - PERIODS_MAX * length)} on, as the plan has periods of `{shortest}`"
        hint = f"at most {PERIODS_MAX:,} billing periods may have begun by now: begin later, or choose a longer cadence"
        raise invalid("active_from", what, instant_text(start), hint)


def _ended_at(changes: Transaction, customer: Customer, start: datetime, now: datetime) -> list[Subscription]:
    """The subscriptions of a customer that a new one ends. Raises `ControlError` if it can't end one."""
    ended = []
    for other in changes.subscriptions(customer.id).values():
        if never_was(other) or (other.active_to is not None and other.active_to <= start):
            continue
        begins = instant_text(other.active_from)
        if start < now and other.active_from <= now:
            until = (
                "" if other.active_to is None or other.active_to > now else f" up to {instant_text(other.active_to)}"
            )
            what = (
                f"expected a start from now on, since subscription `{other.id}` was in force from {begins}{until},"
                f" got {instant_text(start)}"
            )
            raise conflict("active_from", what, "leave it out to begin now, or name an instant that has not passed")
        if other.active_from > start:
            what = f"expected a start from {begins} on, that of subscription `{other.id}`, got {instant_text(start)}"
            raise conflict("active_from", what, "start later, or cancel that subscription first")
        ended.append(replace(other, active_to=start, end_recorded_at=now))
    return ended


def _kept_anchor(changes: Transaction, ended: list[Subscription], start: datetime) -> datetime:
    """
    The anchor of the subscription that a new one follows; the start, where it follows none.

    Where it takes the place of one that was only planned, that is the subscription which that one was to follow.
    """
    for former in ended:
        if not never_was(former):
            return former.anchor
        followed = [
            one
            for one in changes.subscriptions(former.customer_id).values()
            if one.active_to == start and not never_was(one)
        ]
        if followed:
            return max(followed, key=lambda one: (one.active_from, one.id)).anchor
        if former.anchor != former.active_from:
            return former.anchor
    return start


def same_subscription(changes: Transaction, customer: Customer, draft: SubscriptionDraft) -> Subscription | None:
    """The subscription that has the draft's key, if it goes on and all the draft says holds of it."""
    changes.plan(draft.plan, draft.version, "plan")
    if draft.key is None:
        return None
    check_text(draft.key, "key", KEY_LENGTH_MAX)
    held = changes.subscription_by_key(customer.id, draft.key)
    if held is None or held.plan_key != draft.plan or not goes_on(held, changes.now()):
        return None
    holds = held.version_at(max(changes.now(), held.active_from))
    if draft.version not in (None, holds, held.last_version):
        return None
    plan = changes.plan(held.plan_key, held.plan_version, "plan")
    wanted = replace(
        held,
        active_from=draft.active_from or held.active_from,
        anchor=draft.anchor or held.anchor,
        settlement_mode=draft.settlement_mode or plan.settlement_mode,
    )
    return held if held == wanted else None


def change_subscription(changes: Transaction, subscription_id: str, draft: SubscriptionDraft) -> Subscription:
    """
    Have another subscription follow one from an instant on at which that one is in force.

    Where a change was planned for that instant already, it gives way; one that is planned for later has to be
    cancelled first.
    """
    held = changes.subscription(subscription_id)
    now = utc_instant(changes.now(), "now")
    start = now if draft.active_from is None else utc_instant(draft.active_from, "active_from")
    if not goes_on(held, now):
        raise conflict("id", f"expected a subscription that goes on, got one that {_ended(held)}", "subscribe anew")
    if start < now:
        raise invalid("active_from", "an instant that has not passed", instant_text(start), NOT_PAST_HINT)
    if start < held.active_from:
        what = (
            f"expected an instant from {instant_text(held.active_from)} on, when it begins, got {instant_text(start)}"
        )
        raise conflict("active_from", what, "name that instant, or cancel it and subscribe anew")
    if held.active_to is not None and held.active_to < start:
        what = f"expected an instant up to {instant_text(held.active_to)}, when it ends, got {instant_text(start)}"
        raise conflict("active_from", what, "change the subscription that follows it, or subscribe anew")
    anchor = draft.anchor
    if anchor is None and (held.active_from < start or held.anchor != held.active_from):
        anchor = held.anchor
    return subscribe(changes, held.customer_id, replace(draft, active_from=start, anchor=anchor))


def cancel_subscription(changes: Transaction, subscription_id: str, at: datetime | None = None) -> Subscription:
    """
    End a subscription at an instant, None for now; before its start, it never comes to be.

    A subscription that another one is to follow is not cancelled before that one is: its customer would be
    subscribed again later.
    """
    held = changes.subscription(subscription_id)
    now = utc_instant(changes.now(), "now")
    asked = now if at is None else utc_instant(at, "at")
    if asked < now:
        raise invalid("at", "an instant that has not passed", instant_text(asked), NOT_PAST_HINT)
    end = max(asked, held.active_from)
    following = planned(changes.subscriptions(held.customer_id).values(), max(held.active_from, now))
    if goes_on(held, now) and following:
        other = following[0]
        begins = instant_text(other.active_from)
        what = f"expected the last of the customer's subscriptions, got one that `{other.id}` follows at {begins}"
        raise conflict("id", what, "cancel the one that follows first")
    if held.active_to is not None and held.active_to <= end:
        if held.active_to == end:
            return held
        what = f"expected an instant up to {instant_text(held.active_to)}, when it ends, got {instant_text(end)}"
        raise conflict("at", what, "subscribe the customer anew")
    ended = replace(held, active_to=end, end_recorded_at=now)
    changes.record(ended)
    return ended


def withdraw_change(changes: Transaction, subscription_id: str) -> Subscription:
    """
    Have a planned subscription never come to be; the one that it was to follow at once goes on without an end.

    Returns the planned one. Raises `ControlError` if it has begun.
    """
    withdrawn = changes.subscription(subscription_id)
    now = utc_instant(changes.now(), "now")
    if not is_planned(withdrawn, now):
        begun = instant_text(withdrawn.active_from)
        what = f"expected a subscription that is to begin, got one that began, or was to begin, at {begun}"
        raise conflict("id", what, "cancel it, or change it")
    changes.record(replace(withdrawn, active_to=withdrawn.active_from, end_recorded_at=now))
    current = in_force(changes.subscriptions(withdrawn.customer_id).values(), now)
    if current is not None and current.active_to == withdrawn.active_from:
        changes.record(replace(current, active_to=None, end_recorded_at=None))
    return withdrawn


def restore_subscription(changes: Transaction, subscription_id: str, *, alone: bool = False) -> Subscription:
    """
    Have a subscription go on that was to end: its end is taken back, and those planned to follow never come to be.

    Args:
        changes: The transaction.
        subscription_id: One that has not ended yet.
        alone: Whether it is refused where another subscription is planned to follow.
    """
    held = changes.subscription(subscription_id)
    now = utc_instant(changes.now(), "now")
    check_not_deleted(changes.customer(held.customer_id), "id")
    if not goes_on(held, now):
        raise conflict("id", f"expected a subscription that goes on, got one that {_ended(held)}", "subscribe anew")
    for other in planned(changes.subscriptions(held.customer_id).values(), max(held.active_from, now)):
        if alone:
            begins = instant_text(other.active_from)
            what = f"expected the last of the customer's subscriptions, got one that `{other.id}` follows at {begins}"
            raise conflict("id", what, "cancel the one that follows first, or restore this one")
        changes.record(replace(other, active_to=other.active_from, end_recorded_at=now))
    if held.active_to is None:
        return held
    restored = replace(held, active_to=None, end_recorded_at=None)
    changes.record(restored)
    return restored


def _ended(held: Subscription) -> str:
    if never_was(held):
        return f"was cancelled before it began, at {instant_text(held.active_from)}"
    assert held.active_to is not None
    return f"ended at {instant_text(held.active_to)}"
