"""Subscriptions: who is on which version of a plan, from when to when."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from litestar import get, post
from litestar.params import FromPath, JSONBody

from rating import catalog as core
from rating.catalog import SettlementMode
from rating.periods import Cadence, period_at
from tollway.control import YEAR_MAX, YEAR_MIN, Changes, SubscriptionDraft, goes_on, in_force, notes
from tollway.openmeter.customers import gone
from tollway.openmeter.filters import Asked
from tollway.openmeter.plans import stored_plans
from tollway.openmeter.problems import bad_request, conflict, not_found
from tollway.openmeter.routes import both, v1, v3
from tollway.openmeter.shapes import Body, NumberedPage, Page
from tollway.openmeter.stores import ApiStores, Stores
from tollway.openmeter.subscription_moves import move_if_it_can
from tollway.openmeter.subscription_views import (
    Subscription,
    SubscriptionChanged,
    SubscriptionExpanded,
    all_subscriptions,
    find_subscription,
    subscriptions_of,
)
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import PAGE_SIZE, Metadata, PageNumberV3, PageSizeV1, PageSizeV3, Text
from tollway.openmeter.wire import Page as PageV1

TAGS = ["Set-up"]
IMMEDIATE = "immediate"
NEXT_BILLING_CYCLE = "next_billing_cycle"


class PlanReference(Body):
    """A version of a plan; without a version, the newest."""

    key: str | None = None
    id: str | None = None
    version: int | None = None


class CustomerReference(Body):
    """A customer, by id or by key."""

    id: str | None = None
    key: str | None = None


class SubscriptionCreate(Body):
    """A subscription of a customer, named by id or by key, to a plan."""

    plan: PlanReference
    customer: CustomerReference | None = None
    customer_id: str | None = None
    customer_key: str | None = None
    name: Text | None = None
    description: Text | None = None
    labels: Metadata | None = None
    timing: str | None = None
    """`immediate`, `next_billing_cycle`, or an instant in RFC 3339."""
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


class SubscriptionCancel(Body):
    """When a subscription is to end; now, if that is not said."""

    timing: str | None = None


class SubscriptionChange(Body):
    """The plan that follows, and from when on."""

    timing: str
    plan: PlanReference
    name: Text | None = None
    description: Text | None = None
    labels: Metadata | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


def _moment(
    timing: str | None, now: datetime, current: core.Subscription | None, plan: core.PlanVersion | None
) -> datetime:
    """The instant that is meant. A billing cycle that there is none of ends at once."""
    if timing in (None, IMMEDIATE):
        return now
    if timing == NEXT_BILLING_CYCLE:
        if current is None or plan is None or not goes_on(current, now):
            return now
        return period_at(current.anchor, Cadence.parse(plan.cadence), max(now, current.active_from)).end
    try:
        at = msgspec.convert(timing, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        raise bad_request("timing", f"expected `{IMMEDIATE}`, `{NEXT_BILLING_CYCLE}` or an RFC 3339 instant")
    if not YEAR_MIN <= at.year <= YEAR_MAX:
        raise bad_request("timing", f"expected a year of {YEAR_MIN} to {YEAR_MAX}")
    return at.astimezone(UTC)


def _plan(stores: ApiStores, reference: PlanReference) -> tuple[str, int | None]:
    """The key of the plan that is meant, and the version; None: the newest."""
    if reference.key is not None:
        return reference.key, reference.version
    with stores.connection() as connection:
        for plan in stored_plans(connection):
            if plan.id == reference.id and plan.published_at is not None:
                return plan.body.key, plan.version
    raise not_found("published plan", reference.id or "")


def _draft(
    plan: tuple[str, int | None], start: datetime | None, data: SubscriptionCreate | SubscriptionChange
) -> SubscriptionDraft:
    key, version = plan
    return SubscriptionDraft(
        plan=key, version=version, active_from=start, anchor=data.billing_anchor, settlement_mode=data.settlement_mode
    )


def _note(changes: Changes, made: core.Subscription, data: SubscriptionCreate | SubscriptionChange) -> None:
    written = {"name": data.name, "description": data.description, "metadata": data.labels}
    notes.write(changes, "subscription", made.id, written)


def _customer(changes: Changes, data: SubscriptionCreate) -> core.Customer:
    """The customer that is meant, by its id before its key."""
    named = data.customer or CustomerReference()
    customer_id, key = data.customer_id or named.id, data.customer_key or named.key
    reference = customer_id or key
    if reference is None:
        raise bad_request("customer_id", "expected `customerId` or `customerKey`", "required")
    customer = changes.find_customer(reference) if customer_id else changes.find_customer_by_key(reference)
    if customer is None:
        raise not_found("customer", reference)
    if customer.deleted_at is not None:
        raise gone(customer)
    return customer


@both(post, "/subscriptions", status_code=201, tags=TAGS)
def create_subscription(data: JSONBody[SubscriptionCreate], stores: Stores) -> Subscription:
    """Subscribe a customer to a plan."""
    wanted = _plan(stores, data.plan)
    with stores.changing() as changes:
        customer = _customer(changes, data)
        now = changes.now()
        held = changes.subscriptions(customer.id).values()
        current = in_force(held, now)
        plan = None if current is None else changes.plan(current.plan_key, current.plan_version)
        start = None if data.timing in (None, IMMEDIATE) else _moment(data.timing, now, current, plan)
        for other in held:
            if goes_on(other, now if start is None else max(start, now)):
                raise conflict(
                    "customer_id",
                    f"customer `{customer.key}` has subscription `{other.id}`: change or cancel that one",
                )
        made = changes.subscribe(customer, _draft(wanted, start, data))
        _note(changes, made, data)
    return find_subscription(stores, made.id)


@both(get, "/subscriptions/{subscription:str}", tags=TAGS)
def get_subscription(subscription: FromPath[str], stores: Stores) -> SubscriptionExpanded:
    """A subscription; in v1, with its phases."""
    return find_subscription(stores, subscription)


@both(post, "/subscriptions/{subscription:str}/cancel", status_code=200, tags=TAGS)
def cancel_subscription(
    subscription: FromPath[str], data: JSONBody[SubscriptionCancel], stores: Stores
) -> Subscription:
    """End a subscription, now or later."""
    with stores.changing() as changes:
        held = changes.subscription(subscription)
        plan = changes.plan(held.plan_key, held.plan_version)
        changes.cancel_subscription(held.id, _moment(data.timing, changes.now(), held, plan))
    return find_subscription(stores, subscription)


@both(post, "/subscriptions/{subscription:str}/change", status_code=200, tags=TAGS)
def change_subscription(
    subscription: FromPath[str], data: JSONBody[SubscriptionChange], stores: Stores
) -> SubscriptionChanged:
    """
    End a subscription, and start another one in the same instant.

    Another version of the same plan is moved to, where it can be: then both are the one subscription, which goes on.
    """
    wanted = _plan(stores, data.plan)
    with stores.changing() as changes:
        held = changes.subscription(subscription)
        plan = changes.plan(held.plan_key, held.plan_version)
        start = None if data.timing == IMMEDIATE else _moment(data.timing, changes.now(), held, plan)
        draft = _draft(wanted, start, data)
        made = move_if_it_can(changes, held, draft) or changes.change_subscription(held.id, draft)
        _note(changes, made, data)
    return SubscriptionChanged(current=find_subscription(stores, held.id), next=find_subscription(stores, made.id))


@v1(post, "/subscriptions/{subscription:str}/restore", status_code=200, tags=TAGS)
def restore_subscription_v1(subscription: FromPath[str], stores: Stores) -> Subscription:
    """Take back the end that a subscription is to have; what was planned to follow it never comes to be."""
    return _restored(stores, subscription, alone=False)


@both(post, "/subscriptions/{subscription:str}/unschedule-cancelation", status_code=200, tags=TAGS)
def unschedule_cancelation(subscription: FromPath[str], stores: Stores) -> Subscription:
    """Take back the end that a subscription is to have; 409 where another one is planned to follow."""
    return _restored(stores, subscription, alone=True)


def _restored(stores: ApiStores, subscription_id: str, *, alone: bool) -> Subscription:
    with stores.changing() as changes:
        changes.restore_subscription(subscription_id, alone=alone)
    return find_subscription(stores, subscription_id)


@v1(get, "/customers/{customer:str}/subscriptions", on=listing, tags=TAGS)
def list_customer_subscriptions_v1(
    customer: FromPath[str], stores: Stores, page: PageV1 = 1, page_size: PageSizeV1 = PAGE_SIZE
) -> Page[Subscription]:
    """All subscriptions that a customer ever had."""
    with stores.connection() as connection:
        return Page.of(subscriptions_of(connection, customer), page, page_size)


@v3(get, "/subscriptions", on=listing, tags=TAGS)
def list_subscriptions_v3(
    stores: Stores, asked: Asked, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE
) -> NumberedPage[Subscription]:
    """Subscriptions, those that ended too, the oldest first."""
    with stores.connection() as connection:
        found = all_subscriptions(connection, asked)
    return NumberedPage.of(asked.chosen(found, plan_id="plan.id", plan_key="plan.key"), number, size)


ROUTES = [
    *create_subscription,
    *get_subscription,
    *cancel_subscription,
    *change_subscription,
    restore_subscription_v1,
    *unschedule_cancelation,
    list_customer_subscriptions_v1,
    list_subscriptions_v3,
]
