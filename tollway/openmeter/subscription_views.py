"""Subscriptions as they are shown: what the catalog has of one, its plan's part in it, and what people wrote on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec.structs import asdict

from rating import catalog as core
from rating.catalog import SettlementMode
from rating.periods import Cadence, add_duration
from sinks.postgres.statements import statement
from tollway.control import SubscriptionStatus, notes, status_at
from tollway.ledger_reads import Connection
from tollway.openmeter.filters import Filters
from tollway.openmeter.plans import Alignment, ProRating, StoredPlan, stored_plans
from tollway.openmeter.problems import not_found
from tollway.openmeter.shapes import Reference, View
from tollway.openmeter.stores import ApiStores
from tollway.openmeter.wire import Json, Metadata


class PlanVersionReference(View, frozen=True):
    """A version of a plan."""

    id: str
    key: str
    version: int


class Subscription(View, frozen=True):
    """A customer on a version of a plan."""

    id: str
    name: str
    status: SubscriptionStatus
    customer_id: str
    customer: Reference
    plan: PlanVersionReference
    currency: str
    active_from: datetime
    billing_anchor: datetime
    billing_cadence: str
    pro_rating_config: ProRating
    settlement_mode: SettlementMode
    alignment: Alignment
    created_at: datetime
    updated_at: datetime
    active_to: datetime | None = None
    description: str | None = None
    labels: Metadata | None = None


class SubscriptionPhase(View, frozen=True):
    """A phase of the plan, with the instants at which it starts and ends."""

    id: str
    key: str
    name: str
    active_from: datetime
    items: list[Json]
    item_timelines: Json
    created_at: datetime
    updated_at: datetime
    active_to: datetime | None = None


class SubscriptionExpanded(Subscription, frozen=True, kw_only=True):
    """A customer on a version of a plan; in v1, with its phases."""

    phases: list[SubscriptionPhase]


class SubscriptionChanged(View, frozen=True):
    """The subscription that ends, and the one that follows."""

    current: Subscription
    next: SubscriptionExpanded


class SubscriptionMove(View, frozen=True):
    """From `at` on the subscription is on a version of its plan, up to the next move."""

    version: int
    at: datetime
    recorded_at: datetime


class SubscriptionMoved(Subscription, frozen=True, kw_only=True):
    """A customer on a version of a plan, with all moves to other versions, made or planned."""

    moves: list[SubscriptionMove]
    warning: str | None = None
    """Usage of what is new with the version waits from before it holds; with the command that rates it."""


def find_subscription(stores: ApiStores, subscription_id: str) -> SubscriptionExpanded:
    """A subscription with its phases. Raises `Problem`."""
    with stores.connection() as connection:
        found = notes.read(connection, "subscription", "noted_of_id", subscription_id)
        for noted, held, plan in _with_plans(connection, found):
            return SubscriptionExpanded(**asdict(view(noted, held, plan)), phases=list(_phases(held, plan)))
    raise not_found("subscription", subscription_id)


def subscriptions_of(connection: Connection, customer: str) -> list[Subscription]:
    """All subscriptions that a customer ever had, the oldest first. Raises `Problem`."""
    for (customer_id,) in connection.execute(statement("customer_id_of"), (customer,) * 3):
        return _views(connection, notes.read(connection, "subscription", "noted_of_customer", customer_id))
    raise not_found("customer", customer)


def all_subscriptions(connection: Connection, asked: Filters) -> list[Subscription]:
    """The subscriptions of all customers, as far as what is asked of their own fields holds, the oldest first."""
    columns = {"id": "found.id", "customer_id": "found.customer_id", "plan_key": "(found.body ->> 'plan_key')"}
    filters, values = asked.only(*columns).sql(columns)
    return _views(connection, notes.read(connection, "subscription", "noted_by_filters", *values, filters=filters))


def _views(connection: Connection, found: list[notes.Noted]) -> list[Subscription]:
    return [view(noted, held, plan) for noted, held, plan in _with_plans(connection, found)]


def _with_plans(
    connection: Connection, found: list[notes.Noted]
) -> Iterator[tuple[notes.Noted, core.Subscription, StoredPlan]]:
    """Subscriptions, each with the version of its plan that it is on, or will be when it begins."""
    held = [(noted, noted.record) for noted in found if isinstance(noted.record, core.Subscription)]
    plans: dict[tuple[str, int], StoredPlan] = {}
    for key in {subscription.plan_key for _, subscription in held}:
        plans |= {(key, plan.version): plan for plan in stored_plans(connection, key) if plan.published_at}
    now = datetime.now(UTC)
    for noted, subscription in held:
        version = subscription.version_at(max(now, subscription.active_from))
        yield noted, subscription, plans[subscription.plan_key, version]


def view(noted: notes.Noted, held: core.Subscription, plan: StoredPlan) -> Subscription:
    """A subscription as it is shown."""
    return Subscription(
        id=held.id,
        name=noted.notes.get("name", plan.body.name),
        status=status_at(held, datetime.now(UTC)),
        customer_id=held.customer_id,
        customer=Reference(id=held.customer_id),
        plan=PlanVersionReference(id=plan.id, key=held.plan_key, version=plan.version),
        currency=plan.body.currency,
        active_from=held.active_from,
        active_to=held.active_to,
        billing_anchor=held.anchor,
        billing_cadence=plan.body.billing_cadence,
        pro_rating_config=plan.pro_rating,
        settlement_mode=held.settlement_mode,
        alignment=Alignment(billables_must_align=True),
        created_at=noted.created_at,
        updated_at=noted.updated_at,
        description=noted.notes.get("description"),
        labels=noted.notes.get("metadata"),
    )


def _phases(held: core.Subscription, plan: StoredPlan) -> Iterator[SubscriptionPhase]:
    start = held.active_from
    for phase in plan.body.phases:
        end = add_duration(start, Cadence.parse(phase.duration)) if phase.duration else None
        until = held.active_to if end is None else min(end, held.active_to or end)
        yield SubscriptionPhase(
            id=f"{held.id}:{phase.key}",
            key=phase.key,
            name=phase.name,
            active_from=start,
            active_to=until,
            items=[],
            item_timelines={},
            created_at=held.recorded_at,
            updated_at=held.recorded_at,
        )
        if end is None or until != end:
            break
        start = end
