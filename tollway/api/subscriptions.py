"""Subscriptions: who is on which version of a plan, from when to when."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from litestar import get, post
from litestar.params import FromPath, JSONBody

from rating.catalog import PlanVersion, SettlementMode, Subscription
from rating.periods import Cadence, period_at
from tollway.api import notes
from tollway.api.filters import Asked
from tollway.api.plans import stored_plans
from tollway.api.problems import bad_request, conflict, not_found
from tollway.api.stores import ApiStores, Stores
from tollway.api.subscription_answers import (
    all_subscriptions,
    find_subscription,
    subscription_v3,
    subscriptions_of,
    without_phases,
)
from tollway.api.subscription_bodies import (
    CustomerReferenceV3,
    PlanReference,
    PlanReferenceV3,
    SubscriptionCancel,
    SubscriptionCancelV3,
    SubscriptionChange,
    SubscriptionChangeV3,
    SubscriptionCreate,
    SubscriptionCreateV3,
)
from tollway.api.subscription_moves import move_if_it_can
from tollway.api.threads import listing, threaded
from tollway.api.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    Page,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    camel,
    page_v1,
    page_v3,
)
from tollway.control import YEAR_MAX, YEAR_MIN, Changes, SubscriptionDraft, goes_on, in_force
from tollway.openmeter.customers import gone

IMMEDIATE = "immediate"
NEXT_BILLING_CYCLE = "next_billing_cycle"


def _moment(timing: str | None, now: datetime, current: Subscription | None, plan: PlanVersion | None) -> datetime:
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


def _subscribe(stores: ApiStores, body: SubscriptionCreate) -> Json:
    reference = body.customer_id or body.customer_key
    if reference is None:
        raise bad_request("customer_id", "expected `customerId` or `customerKey`", "required")
    with stores.changing() as changes:
        found = changes.find_customer(reference) if body.customer_id else changes.find_customer_by_key(reference)
        if found is None:
            raise not_found("customer", reference)
        if found.deleted_at is not None:
            raise gone(found)
        now = changes.now()
        held = changes.subscriptions(found.id).values()
        current = in_force(held, now)
        plan = None if current is None else changes.plan(current.plan_key, current.plan_version)
        start = None if body.timing in (None, IMMEDIATE) else _moment(body.timing, now, current, plan)
        for other in held:
            if goes_on(other, now if start is None else max(start, now)):
                raise conflict(
                    "customer_id",
                    f"customer `{found.key}` has subscription `{other.id}`: change or cancel that one",
                )
        made = changes.subscribe(found, _draft(body.plan, start, body.billing_anchor, body.settlement_mode))
        _note(changes, made, body.name, body.description, body.metadata)
    return find_subscription(stores, made.id)


def _draft(
    plan: PlanReference, start: datetime | None, anchor: datetime | None, mode: SettlementMode | None
) -> SubscriptionDraft:
    return SubscriptionDraft(
        plan=plan.key, version=plan.version, active_from=start, anchor=anchor, settlement_mode=mode
    )


def _note(
    changes: Changes, made: Subscription, name: str | None, description: str | None, metadata: Metadata | None
) -> None:
    written = {"name": name, "description": description, "metadata": metadata}
    notes.write(changes, "subscription", made.id, written)


def _cancel(stores: ApiStores, subscription_id: str, timing: str | None) -> Json:
    with stores.changing() as changes:
        held = changes.subscription(subscription_id)
        plan = changes.plan(held.plan_key, held.plan_version)
        changes.cancel_subscription(held.id, _moment(timing, changes.now(), held, plan))
    return find_subscription(stores, subscription_id)


def _change(stores: ApiStores, subscription_id: str, body: SubscriptionChange) -> tuple[Json, Json]:
    with stores.changing() as changes:
        held = changes.subscription(subscription_id)
        plan = changes.plan(held.plan_key, held.plan_version)
        start = None if body.timing == IMMEDIATE else _moment(body.timing, changes.now(), held, plan)
        made = move_if_it_can(changes, held, body.plan, start, body.billing_anchor, body.settlement_mode)
        if made is None:
            draft = _draft(body.plan, start, body.billing_anchor, body.settlement_mode)
            made = changes.change_subscription(held.id, draft)
        _note(changes, made, body.name, body.description, body.metadata)
    return find_subscription(stores, held.id), find_subscription(stores, made.id)


def _restore(stores: ApiStores, subscription_id: str, *, alone: bool) -> Json:
    with stores.changing() as changes:
        changes.restore_subscription(subscription_id, alone=alone)
    return find_subscription(stores, subscription_id)


@post("/api/v1/subscriptions", status_code=201, tags=["Set-up"])
@threaded
def create_subscription_v1(data: JSONBody[SubscriptionCreate], stores: Stores) -> Json:
    """Subscribe a customer to a plan."""
    return camel(without_phases(_subscribe(stores, data)))


@get("/api/v1/subscriptions/{subscription:str}", tags=["Set-up"])
@threaded
def get_subscription_v1(subscription: FromPath[str], stores: Stores) -> Json:
    """A subscription, with its phases."""
    return camel(find_subscription(stores, subscription))


@get("/api/v1/customers/{customer:str}/subscriptions", tags=["Set-up"])
@listing
def list_customer_subscriptions_v1(
    customer: FromPath[str], stores: Stores, page: Page = 1, page_size: PageSizeV1 = PAGE_SIZE
) -> Json:
    """All subscriptions that a customer ever had."""
    with stores.connection() as connection:
        found = [camel(without_phases(body)) for body in subscriptions_of(connection, customer)]
    return page_v1(found, page, page_size)


@post("/api/v1/subscriptions/{subscription:str}/cancel", status_code=200, tags=["Set-up"])
@threaded
def cancel_subscription_v1(subscription: FromPath[str], data: JSONBody[SubscriptionCancel], stores: Stores) -> Json:
    """End a subscription, now or later."""
    return camel(without_phases(_cancel(stores, subscription, data.timing)))


@post("/api/v1/subscriptions/{subscription:str}/change", status_code=200, tags=["Set-up"])
@threaded
def change_subscription_v1(subscription: FromPath[str], data: JSONBody[SubscriptionChange], stores: Stores) -> Json:
    """
    End a subscription, and start another one in the same instant.

    Another version of the same plan is moved to, where it can be: then both are the one subscription, which goes on.
    """
    current, following = _change(stores, subscription, data)
    return {"current": camel(without_phases(current)), "next": camel(following)}


@post("/api/v1/subscriptions/{subscription:str}/restore", status_code=200, tags=["Set-up"])
@threaded
def restore_subscription_v1(subscription: FromPath[str], stores: Stores) -> Json:
    """Take back the end that a subscription is to have; what was planned to follow it never comes to be."""
    return camel(without_phases(_restore(stores, subscription, alone=False)))


@post("/api/v1/subscriptions/{subscription:str}/unschedule-cancelation", status_code=200, tags=["Set-up"])
@threaded
def unschedule_cancelation_v1(subscription: FromPath[str], stores: Stores) -> Json:
    """Take back the end that a subscription is to have; 409 where another one is planned to follow."""
    return camel(without_phases(_restore(stores, subscription, alone=True)))


@post("/api/v3/openmeter/subscriptions", status_code=201, tags=["Set-up"])
@threaded
def create_subscription_v3(data: JSONBody[SubscriptionCreateV3], stores: Stores) -> Json:
    """Subscribe a customer to a plan."""
    customer = data.customer or CustomerReferenceV3()
    body = SubscriptionCreate(
        plan=_plan_v3(stores, data.plan),
        customer_id=data.customer_id or customer.id,
        customer_key=data.customer_key or customer.key,
        name=data.name,
        metadata=data.labels,
        timing=data.timing,
        billing_anchor=data.billing_anchor,
        settlement_mode=data.settlement_mode,
    )
    return subscription_v3(_subscribe(stores, body))


@get("/api/v3/openmeter/subscriptions", tags=["Set-up"])
@listing
def list_subscriptions_v3(
    stores: Stores,
    asked: Asked,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """Subscriptions, those that ended too, the oldest first."""
    with stores.connection() as connection:
        found = [subscription_v3(body) for body in all_subscriptions(connection, asked)]
    return page_v3(asked.chosen(found, plan_id="plan.id", plan_key="plan.key"), number, size)


@get("/api/v3/openmeter/subscriptions/{subscription:str}", tags=["Set-up"])
@threaded
def get_subscription_v3(subscription: FromPath[str], stores: Stores) -> Json:
    """A subscription."""
    return subscription_v3(find_subscription(stores, subscription))


@post("/api/v3/openmeter/subscriptions/{subscription:str}/cancel", status_code=200, tags=["Set-up"])
@threaded
def cancel_subscription_v3(subscription: FromPath[str], data: JSONBody[SubscriptionCancelV3], stores: Stores) -> Json:
    """End a subscription, now or later."""
    return subscription_v3(_cancel(stores, subscription, data.timing))


@post("/api/v3/openmeter/subscriptions/{subscription:str}/unschedule-cancelation", status_code=200, tags=["Set-up"])
@threaded
def unschedule_cancelation_v3(subscription: FromPath[str], stores: Stores) -> Json:
    """Take back the end that a subscription is to have; 409 where another one is planned to follow."""
    return subscription_v3(_restore(stores, subscription, alone=True))


@post("/api/v3/openmeter/subscriptions/{subscription:str}/change", status_code=200, tags=["Set-up"])
@threaded
def change_subscription_v3(subscription: FromPath[str], data: JSONBody[SubscriptionChangeV3], stores: Stores) -> Json:
    """
    End a subscription, and start another one in the same instant.

    Another version of the same plan is moved to, where it can be: then both are the one subscription, which goes on.
    """
    body = SubscriptionChange(
        timing=data.timing,
        plan=_plan_v3(stores, data.plan),
        name=data.name,
        metadata=data.labels,
        billing_anchor=data.billing_anchor,
        settlement_mode=data.settlement_mode,
    )
    current, following = _change(stores, subscription, body)
    return {"current": subscription_v3(current), "next": subscription_v3(following)}


def _plan_v3(stores: ApiStores, reference: PlanReferenceV3) -> PlanReference:
    if reference.key is not None:
        return PlanReference(key=reference.key, version=reference.version)
    with stores.connection() as connection:
        for plan in stored_plans(connection):
            if plan.id == reference.id and plan.published_at is not None:
                return PlanReference(key=plan.body.key, version=plan.version)
    raise not_found("published plan", reference.id or "")


ROUTES = [
    create_subscription_v1,
    get_subscription_v1,
    list_customer_subscriptions_v1,
    cancel_subscription_v1,
    change_subscription_v1,
    restore_subscription_v1,
    unschedule_cancelation_v1,
    create_subscription_v3,
    list_subscriptions_v3,
    get_subscription_v3,
    cancel_subscription_v3,
    unschedule_cancelation_v3,
    change_subscription_v3,
]
