"""What was set up, listed: customers, plans and subscriptions."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from rating.catalog import Customer, PlanVersion, Subscription, decode_record
from tollway.ledger_reads.customers import find_customer
from tollway.ledger_reads.statements import Connection, rows


class ListedCustomer(Struct, frozen=True):
    """A customer, and what is left to it as the ledger has it."""

    id: str
    key: str
    name: str
    currency: str
    subjects: tuple[str, ...]
    """The subjects whose usage is the customer's, beside its key."""
    live: Decimal
    access: str
    created_at: datetime
    deleted_at: datetime | None


class ListedPlan(Struct, frozen=True):
    """A published version of a plan."""

    key: str
    version: int
    name: str
    currency: str
    cadence: str
    settlement_mode: str
    features: tuple[str, ...]
    """What its rate cards price."""
    published_at: datetime


class ListedSubscription(Struct, frozen=True):
    """A subscription of a customer."""

    id: str
    customer_id: str
    customer_key: str
    key: str | None
    plan_key: str
    plan_version: int
    """The version that it is on now, or begins on."""
    active_from: datetime
    active_to: datetime | None
    anchor: datetime
    held: Subscription
    """All that the catalog has of it."""


def list_customers(connection: Connection, *, deleted: bool = False, limit: int | None = 100) -> list[ListedCustomer]:
    """Customers by key; `deleted`: also those that are no more."""
    found = []
    for row in rows(connection, "list_customers", {"all": deleted, "limit": limit}):
        held = decode_record(row["body"])
        assert isinstance(held, Customer), "the table of customers holds customers"
        found.append(
            ListedCustomer(
                id=held.id,
                key=held.key,
                name=held.name,
                currency=held.currency,
                subjects=held.subjects,
                live=row["live"],
                access=row["access"],
                created_at=row["created_at"],
                deleted_at=held.deleted_at,
            )
        )
    return found


def list_plans(connection: Connection, plan: str | None = None, *, limit: int | None = 100) -> list[ListedPlan]:
    """Published versions of all plans, or of one, by key and version."""
    found = []
    for row in rows(connection, "list_plans", {"plan": plan, "limit": limit}):
        held = decode_record(row["body"])
        assert isinstance(held, PlanVersion), "the table of plans holds versions of plans"
        cards = (card for phase in held.phases for card in phase.rate_cards)
        found.append(
            ListedPlan(
                key=held.key,
                version=held.version,
                name=held.name,
                currency=held.currency,
                cadence=held.cadence,
                settlement_mode=held.settlement_mode.value,
                features=tuple(dict.fromkeys(card.feature_key for card in cards if card.feature_key)),
                published_at=row["published_at"],
            )
        )
    return found


def list_subscriptions(
    connection: Connection, now: datetime, customer: str | None = None, *, limit: int | None = 100
) -> list[ListedSubscription]:
    """Subscriptions of all customers, or of one, by the customer's key, the oldest first. Raises `NotFound`."""
    customer_id = None if customer is None else find_customer(connection, customer).id
    found = []
    for row in rows(connection, "list_subscriptions", {"customer_id": customer_id, "limit": limit}):
        held = decode_record(row["body"])
        assert isinstance(held, Subscription), "the table of subscriptions holds subscriptions"
        found.append(
            ListedSubscription(
                id=held.id,
                customer_id=held.customer_id,
                customer_key=row["customer_key"],
                key=row["key"],
                plan_key=held.plan_key,
                plan_version=held.version_at(max(now, held.active_from)),
                active_from=held.active_from,
                active_to=held.active_to,
                anchor=held.anchor,
                held=held,
            )
        )
    return found
