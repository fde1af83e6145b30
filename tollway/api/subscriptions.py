"""Subscriptions: who is on which version of a plan, from when to when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from rating.catalog import PlanVersion, SettlementMode, Subscription
from rating.periods import Cadence, add_duration, period_at
from tollway.api import notes
from tollway.api.customers import is_deleted
from tollway.api.plan_bodies import ProRatingConfig, StoredPlan
from tollway.api.plans import stored_plans
from tollway.api.problems import bad_request, conflict, not_found
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import threaded
from tollway.api.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    Page,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    Text,
    camel,
    compact,
    instant,
    labelled,
    page_v1,
    page_v3,
)
from tollway.control import YEAR_MAX, YEAR_MIN, Changes, ControlCode, ControlError, SubscriptionDraft
from tollway.ledger_reads import Connection

IMMEDIATE = "immediate"
NEXT_BILLING_CYCLE = "next_billing_cycle"


class PlanReference(Struct, rename="camel", kw_only=True):
    """A version of a plan; without a version, the newest."""

    key: str
    version: int | None = None


class SubscriptionCreate(Struct, rename="camel", kw_only=True):
    """A subscription of a customer, named by id or by key, to a plan."""

    plan: PlanReference
    customer_id: str | None = None
    customer_key: str | None = None
    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None
    timing: str | None = None
    """`immediate`, `next_billing_cycle`, or an instant in RFC 3339."""
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


class SubscriptionCancel(Struct, rename="camel", kw_only=True):
    """When a subscription is to end; now, if that is not said."""

    timing: str | None = None


class SubscriptionChange(Struct, rename="camel", kw_only=True):
    """The plan that follows, and from when on."""

    timing: str
    plan: PlanReference
    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


class CustomerReferenceV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A customer, by id or by key."""

    id: str | None = None
    key: str | None = None


class PlanReferenceV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A version of a plan; without a version, the newest."""

    key: str | None = None
    id: str | None = None
    version: int | None = None


class SubscriptionCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A subscription of a customer to a plan."""

    plan: PlanReferenceV3
    customer: CustomerReferenceV3 | None = None
    customer_id: str | None = None
    customer_key: str | None = None
    name: Text | None = None
    labels: Metadata | None = None
    timing: str | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


class SubscriptionCancelV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """When a subscription is to end; now, if that is not said."""

    timing: str | None = None


class SubscriptionChangeV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """The plan that follows, and from when on."""

    timing: str
    plan: PlanReferenceV3
    name: Text | None = None
    labels: Metadata | None = None
    billing_anchor: datetime | None = None
    settlement_mode: SettlementMode | None = None


def _moment(timing: str | None, now: datetime, current: Subscription | None, plan: PlanVersion | None) -> datetime:
    """The instant that is meant. A billing cycle that there is none of ends at once."""
    if timing in (None, IMMEDIATE):
        return now
    if timing == NEXT_BILLING_CYCLE:
        if current is None or plan is None:
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
        if found is None or is_deleted(changes, found.id):
            raise not_found("customer", reference)
        now = changes.now()
        held = changes.subscriptions(found.id).values()
        current = next((one for one in held if one.active_to is None or one.active_to > now), None)
        plan = None if current is None else changes.plan(current.plan_key, current.plan_version)
        start = None if body.timing in (None, IMMEDIATE) else _moment(body.timing, now, current, plan)
        for other in held:
            if other.active_to is None or other.active_to > max(start or now, other.active_from):
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
        now = changes.now()
        if held.active_to is not None and held.active_to <= now:
            raise ControlError(
                ControlCode.CONFLICT, "expected a subscription that goes on, got one that ended", "id", "subscribe anew"
            )
        plan = changes.plan(held.plan_key, held.plan_version)
        start = None if body.timing == IMMEDIATE else _moment(body.timing, now, held, plan)
        draft = _draft(body.plan, start, body.billing_anchor, body.settlement_mode)
        made = changes.subscribe(held.customer_id, draft)
        _note(changes, made, body.name, body.description, body.metadata)
    return find_subscription(stores, held.id), find_subscription(stores, made.id)


def find_subscription(stores: ApiStores, subscription_id: str) -> Json:
    """A subscription with its phases, in snake_case. Raises `Problem`."""
    with stores.connection() as connection:
        for found in notes.read(connection, "subscription", "where id = %s", subscription_id):
            return _bodies(connection, [found])[0]
    raise not_found("subscription", subscription_id)


def _of_customer(connection: Connection, customer: str) -> list[Json]:
    for (customer_id,) in connection.execute(
        "select id from customers where id = %s or key = %s order by id = %s desc limit 1", (customer,) * 3
    ):
        found = notes.read(connection, "subscription", "where customer_id = %s order by id", customer_id)
        return _bodies(connection, found)
    raise not_found("customer", customer)


def _bodies(connection: Connection, found: list[notes.Noted]) -> list[Json]:
    plans: dict[tuple[str, int], StoredPlan] = {}
    for key in {noted.record.plan_key for noted in found if isinstance(noted.record, Subscription)}:
        plans |= {(key, plan.version): plan for plan in stored_plans(connection, key) if plan.published_at}
    return [_body(noted, plans) for noted in found]


def _body(found: notes.Noted, plans: dict[tuple[str, int], StoredPlan]) -> Json:
    held = found.record
    assert isinstance(held, Subscription)
    plan = plans[held.plan_key, held.plan_version]
    return compact(
        {
            "id": held.id,
            "name": plan.body.name,
            "status": _status(held, datetime.now(UTC)),
            "customer_id": held.customer_id,
            "plan": {"id": plan.id, "key": held.plan_key, "version": held.plan_version},
            "currency": plan.body.currency,
            "active_from": instant(held.active_from),
            "active_to": instant(held.active_to),
            "billing_anchor": instant(held.anchor),
            "billing_cadence": plan.body.billing_cadence,
            "pro_rating_config": {
                "enabled": (plan.body.pro_rating_config or ProRatingConfig()).enabled,
                "mode": "prorate_prices",
            },
            "settlement_mode": held.settlement_mode.value,
            "alignment": {"billables_must_align": True},
            "phases": _phases(held, plan),
            "created_at": instant(found.created_at),
            "updated_at": instant(found.updated_at),
        }
        | found.notes
    )


def _status(held: Subscription, now: datetime) -> str:
    if held.active_from > now:
        return "scheduled"
    if held.active_to is None:
        return "active"
    return "canceled" if held.active_to > now else "inactive"


def _phases(held: Subscription, plan: StoredPlan) -> list[Json]:
    found: list[Json] = []
    start = held.active_from
    for phase in plan.body.phases:
        end = add_duration(start, Cadence.parse(phase.duration)) if phase.duration else None
        until = held.active_to if end is None else min(end, held.active_to or end)
        body: Json = {
            "id": f"{held.id}:{phase.key}",
            "key": phase.key,
            "name": phase.name,
            "active_from": instant(start),
            "active_to": instant(until),
            "items": [],
            "item_timelines": {},
            "created_at": instant(held.recorded_at),
            "updated_at": instant(held.recorded_at),
        }
        found.append(compact(body))
        if end is None or until != end:
            break
        start = end
    return found


def _plain(body: Json) -> Json:
    return {name: value for name, value in body.items() if name != "phases"}


@post("/api/v1/subscriptions", status_code=201, tags=["Set-up"])
@threaded
def create_subscription_v1(data: JSONBody[SubscriptionCreate], stores: Stores) -> Json:
    """Subscribe a customer to a plan."""
    return camel(_plain(_subscribe(stores, data)))


@get("/api/v1/subscriptions/{subscription:str}", tags=["Set-up"])
@threaded
def get_subscription_v1(subscription: FromPath[str], stores: Stores) -> Json:
    """A subscription, with its phases."""
    return camel(find_subscription(stores, subscription))


@get("/api/v1/customers/{customer:str}/subscriptions", tags=["Set-up"])
@threaded
def list_customer_subscriptions_v1(
    customer: FromPath[str], stores: Stores, page: Page = 1, page_size: PageSizeV1 = PAGE_SIZE
) -> Json:
    """All subscriptions that a customer ever had."""
    with stores.connection() as connection:
        found = [camel(_plain(body)) for body in _of_customer(connection, customer)]
    return page_v1(found, page, page_size)


@post("/api/v1/subscriptions/{subscription:str}/cancel", status_code=200, tags=["Set-up"])
@threaded
def cancel_subscription_v1(subscription: FromPath[str], data: JSONBody[SubscriptionCancel], stores: Stores) -> Json:
    """End a subscription, now or later."""
    return camel(_plain(_cancel(stores, subscription, data.timing)))


@post("/api/v1/subscriptions/{subscription:str}/change", status_code=200, tags=["Set-up"])
@threaded
def change_subscription_v1(subscription: FromPath[str], data: JSONBody[SubscriptionChange], stores: Stores) -> Json:
    """End a subscription, and start another one in the same instant."""
    current, following = _change(stores, subscription, data)
    return {"current": camel(_plain(current)), "next": camel(following)}


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
    return _v3(_subscribe(stores, body))


@get("/api/v3/openmeter/subscriptions", tags=["Set-up"])
@threaded
def list_subscriptions_v3(
    stores: Stores,
    customer_id: Annotated[str, QueryParameter(name="filter[customer_id]")],
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """All subscriptions that a customer ever had."""
    with stores.connection() as connection:
        return page_v3([_v3(body) for body in _of_customer(connection, customer_id)], number, size)


@get("/api/v3/openmeter/subscriptions/{subscription:str}", tags=["Set-up"])
@threaded
def get_subscription_v3(subscription: FromPath[str], stores: Stores) -> Json:
    """A subscription."""
    return _v3(find_subscription(stores, subscription))


@post("/api/v3/openmeter/subscriptions/{subscription:str}/cancel", status_code=200, tags=["Set-up"])
@threaded
def cancel_subscription_v3(subscription: FromPath[str], data: JSONBody[SubscriptionCancelV3], stores: Stores) -> Json:
    """End a subscription, now or later."""
    return _v3(_cancel(stores, subscription, data.timing))


@post("/api/v3/openmeter/subscriptions/{subscription:str}/change", status_code=200, tags=["Set-up"])
@threaded
def change_subscription_v3(subscription: FromPath[str], data: JSONBody[SubscriptionChangeV3], stores: Stores) -> Json:
    """End a subscription, and start another one in the same instant."""
    body = SubscriptionChange(
        timing=data.timing,
        plan=_plan_v3(stores, data.plan),
        name=data.name,
        metadata=data.labels,
        billing_anchor=data.billing_anchor,
        settlement_mode=data.settlement_mode,
    )
    current, following = _change(stores, subscription, body)
    return {"current": _v3(current), "next": _v3(following)}


def _plan_v3(stores: ApiStores, reference: PlanReferenceV3) -> PlanReference:
    if reference.key is not None:
        return PlanReference(key=reference.key, version=reference.version)
    with stores.connection() as connection:
        for plan in stored_plans(connection):
            if plan.id == reference.id and plan.published_at is not None:
                return PlanReference(key=plan.body.key, version=plan.version)
    raise not_found("published plan", reference.id or "")


def _v3(body: Json) -> Json:
    return labelled(_plain(body)) | {"customer": {"id": body["customer_id"]}}


ROUTES = [
    create_subscription_v1,
    get_subscription_v1,
    list_customer_subscriptions_v1,
    cancel_subscription_v1,
    change_subscription_v1,
    create_subscription_v3,
    list_subscriptions_v3,
    get_subscription_v3,
    cancel_subscription_v3,
    change_subscription_v3,
]
