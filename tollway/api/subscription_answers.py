"""
Subscriptions as they are shown: what the catalog has of one, its plan's part in it, and what people wrote on it.

All is in snake_case, with the phases, until a handler brings it into the form of its version.
"""

from __future__ import annotations

from datetime import UTC, datetime

from rating.catalog import Subscription
from rating.periods import Cadence, add_duration
from tollway.api import notes
from tollway.api.filters import Filters
from tollway.api.plan_bodies import ProRatingConfig, StoredPlan
from tollway.api.plans import stored_plans
from tollway.api.problems import not_found
from tollway.api.stores import ApiStores
from tollway.api.wire import Json, compact, instant, labelled
from tollway.control import status_at
from tollway.ledger_reads import Connection


def find_subscription(stores: ApiStores, subscription_id: str) -> Json:
    """A subscription with its phases, in snake_case. Raises `Problem`."""
    with stores.connection() as connection:
        for found in notes.read(connection, "subscription", "where id = %s", subscription_id):
            return _bodies(connection, [found])[0]
    raise not_found("subscription", subscription_id)


def subscriptions_of(connection: Connection, customer: str) -> list[Json]:
    """All subscriptions that a customer ever had, the oldest first. Raises `Problem`."""
    for (customer_id,) in connection.execute(
        "select id from customers where id = %s or key = %s order by id = %s desc limit 1", (customer,) * 3
    ):
        found = notes.read(connection, "subscription", "where customer_id = %s order by id", customer_id)
        return _bodies(connection, found)
    raise not_found("customer", customer)


def all_subscriptions(connection: Connection, asked: Filters) -> list[Json]:
    """The subscriptions of all customers, as far as what is asked of their own fields holds, the oldest first."""
    columns = {"id": "found.id", "customer_id": "found.customer_id", "plan_key": "(found.body ->> 'plan_key')"}
    condition, values = asked.only(*columns).sql(columns)
    return _bodies(connection, notes.read(connection, "subscription", f"where {condition} order by id", *values))


def without_phases(body: Json) -> Json:
    """A subscription as it is shown wherever its phases are not asked for."""
    return {name: value for name, value in body.items() if name != "phases"}


def subscription_v3(body: Json) -> Json:
    """A subscription as v3 shows it."""
    return labelled(without_phases(body)) | {"customer": {"id": body["customer_id"]}}


def _bodies(connection: Connection, found: list[notes.Noted]) -> list[Json]:
    plans: dict[tuple[str, int], StoredPlan] = {}
    for key in {noted.record.plan_key for noted in found if isinstance(noted.record, Subscription)}:
        plans |= {(key, plan.version): plan for plan in stored_plans(connection, key) if plan.published_at}
    return [_body(noted, plans) for noted in found]


def _body(found: notes.Noted, plans: dict[tuple[str, int], StoredPlan]) -> Json:
    held = found.record
    assert isinstance(held, Subscription)
    version = held.version_at(max(datetime.now(UTC), held.active_from))
    plan = plans[held.plan_key, version]
    return compact(
        {
            "id": held.id,
            "name": plan.body.name,
            "status": status_at(held, datetime.now(UTC)),
            "customer_id": held.customer_id,
            "plan": {"id": plan.id, "key": held.plan_key, "version": version},
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
