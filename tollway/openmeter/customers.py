"""Customers, made, changed and deleted through the control plane."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from ulid import ULID

from rating import catalog as core
from rating.money import plain
from sinks.postgres.statements import statement
from tollway.control import Changes, CustomerDraft, notes
from tollway.ledger_reads import Connection
from tollway.openmeter.filters import EQ, Asked, Condition, Filters, Many, containing
from tollway.openmeter.problems import Problem, conflict, not_found
from tollway.openmeter.routes import both, v1, v3
from tollway.openmeter.shapes import Amount, Body, NumberedPage, Page, View
from tollway.openmeter.stores import ApiStores, Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    Numeric,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    Text,
    amount,
    instant,
)
from tollway.openmeter.wire import Page as PageV1

TAGS = ["Set-up"]


class UsageAttribution(Body):
    """The subjects whose usage is the customer's; its key always is one."""

    subject_keys: list[str]


class CustomerCreate(Body):
    """A customer."""

    name: Text
    key: str | None = None
    description: Text | None = None
    labels: Metadata | None = None
    usage_attribution: UsageAttribution | None = None
    primary_email: Text | None = None
    currency: str | None = None
    billing_address: Json | None = None
    block_when_exhausted: bool | None = None
    """Block under `credit_then_invoice` too when no credit is left."""
    low_balance_thresholds: list[Numeric] | None = None
    """Live balances at or below which a signal is raised."""


class Attribution(View, frozen=True):
    """The subjects whose usage is the customer's, besides its key."""

    subject_keys: list[str]


class Customer(View, frozen=True):
    """A customer."""

    id: str
    key: str
    name: str
    currency: str
    usage_attribution: Attribution
    block_when_exhausted: bool
    low_balance_thresholds: list[Amount]
    created_at: datetime
    updated_at: datetime
    current_subscription_id: str | None = None
    description: str | None = None
    labels: Metadata | None = None
    primary_email: str | None = None
    billing_address: Json | None = None
    deleted_at: datetime | None = None


def view(noted: notes.Noted, subscription_id: str | None) -> Customer:
    """A customer as it is shown, with the subscription that it has now."""
    customer, written = noted.record, noted.notes
    assert isinstance(customer, core.Customer)
    return Customer(
        id=customer.id,
        key=customer.key,
        name=customer.name,
        currency=customer.currency,
        usage_attribution=Attribution(subject_keys=list(customer.subjects)),
        block_when_exhausted=customer.block_when_exhausted,
        low_balance_thresholds=[plain(limit) for limit in customer.low_balance_thresholds],
        created_at=noted.created_at,
        updated_at=max(noted.updated_at, customer.deleted_at or noted.updated_at),
        current_subscription_id=subscription_id,
        description=written.get("description"),
        labels=written.get("metadata"),
        primary_email=written.get("primary_email"),
        billing_address=written.get("billing_address"),
        deleted_at=customer.deleted_at,
    )


def _views(connection: Connection, found: list[notes.Noted]) -> list[Customer]:
    ids = [noted.record.id for noted in found if isinstance(noted.record, core.Customer)]
    now = datetime.now(UTC)
    current: dict[str, str] = dict(connection.execute(statement("current_subscriptions"), (ids, now, now)).fetchall())
    return [view(noted, current.get(id)) for id, noted in zip(ids, found, strict=True)]


def find_customer(stores: ApiStores, id_or_key: str) -> Customer:
    """A customer by id or key. Raises `Problem`."""
    with stores.connection() as connection:
        for customer in _views(connection, notes.read(connection, "customer", "noted_of_id_or_key", *(id_or_key,) * 3)):
            return customer
    raise not_found("customer", id_or_key)


def gone(customer: core.Customer) -> Problem:
    """What is answered for a customer that was deleted, wherever it is to be changed or given something."""
    assert customer.deleted_at is not None
    detail = (
        f"customer `{customer.key}` was deleted at {instant(customer.deleted_at)}; its ledger stays, and so its key"
    )
    return Problem(404, detail)


def standing(changes: Changes, id_or_key: str) -> core.Customer:
    """A customer that was not deleted, by id or key. Raises `Problem`."""
    customer = changes.find_customer(id_or_key)
    if customer is None:
        raise not_found("customer", id_or_key)
    if customer.deleted_at is not None:
        raise gone(customer)
    return customer


def _put(changes: Changes, key: str, data: CustomerCreate) -> core.Customer:
    draft = CustomerDraft(
        key=key,
        name=data.name,
        currency=data.currency or None,
        subjects=tuple(data.usage_attribution.subject_keys if data.usage_attribution else ()),
        block_when_exhausted=bool(data.block_when_exhausted),
        low_balance_thresholds=tuple(amount(text) for text in data.low_balance_thresholds or ()),
    )
    customer = changes.put_customer(draft)
    written = {
        "description": data.description,
        "metadata": data.labels,
        "primary_email": data.primary_email,
        "billing_address": data.billing_address,
    }
    notes.write(changes, "customer", customer.id, written)
    return customer


@both(post, "/customers", status_code=201, tags=TAGS)
def create_customer(data: JSONBody[CustomerCreate], stores: Stores) -> Customer:
    """Create a customer."""
    key = data.key or str(ULID())
    with stores.changing() as changes:
        known = changes.find_customer_by_key(key)
        if known is not None and known.deleted_at is not None:
            raise conflict("key", f"there was a customer `{key}` that is deleted; its ledger stays, and so its key")
        if known is not None:
            raise conflict("key", f"there is a customer `{key}` already")
        made = _put(changes, key, data)
    return find_customer(stores, made.id)


@both(get, "/customers/{customer:str}", tags=TAGS)
def get_customer(customer: FromPath[str], stores: Stores) -> Customer:
    """A customer by id or key."""
    return find_customer(stores, customer)


@both(put, "/customers/{customer:str}", tags=TAGS)
def update_customer(customer: FromPath[str], data: JSONBody[CustomerCreate], stores: Stores) -> Customer:
    """Replace what a customer says of itself: what is left out is emptied. Its key stays."""
    with stores.changing() as changes:
        known = standing(changes, customer)
        if data.key is not None and data.key != known.key:
            raise conflict("key", f"expected `{known.key}`: a customer's key does not change")
        _put(changes, known.key, data)
    return find_customer(stores, known.id)


@both(delete, "/customers/{customer:str}", status_code=204, tags=TAGS)
def delete_customer(customer: FromPath[str], stores: Stores) -> None:
    """Delete a customer, if it has no subscription: it is no longer listed, and its ledger stays."""
    with stores.changing() as changes:
        changes.delete_customer(standing(changes, customer).id)


COLUMNS: Final[Mapping[str, str | Many]] = {
    "key": "found.key",
    "name": "(found.body ->> 'name')",
    "primary_email": "(notes.body ->> 'primary_email')",
    "usage_attribution_subject_key": Many("subjects_named", "named.subject"),
    "subject": Many("subjects_owned", "named.subject"),
    "plan_key": Many("active_subscriptions", "(held.body ->> 'plan_key')"),
}
"""Where filters find what they are about. A plan is that of an active subscription; to v1 a key is a subject too."""


def _listed(stores: ApiStores, asked: Filters, with_deleted: bool, page: int, size: int) -> tuple[list[Customer], int]:
    """One page of the customers that are asked for, and how many there are in all."""
    filters, values = asked.sql(COLUMNS)
    values = [*values, with_deleted]
    place = size, (page - 1) * size
    with stores.connection() as connection:
        found = notes.read(connection, "customer", "noted_page_of_customers", *values, *place, filters=filters)
        counted = connection.execute(statement("number_of_noted_customers", filters=filters), values).fetchone()
        return _views(connection, found), int(counted[0]) if counted else 0


@v1(get, "/customers", on=listing, tags=TAGS)
def list_customers_v1(
    stores: Stores,
    key: FromQuery[str | None] = None,
    name: FromQuery[str | None] = None,
    primary_email: Annotated[str | None, QueryParameter(name="primaryEmail")] = None,
    subject: FromQuery[str | None] = None,
    plan_key: Annotated[str | None, QueryParameter(name="planKey")] = None,
    include_deleted: Annotated[bool, QueryParameter(name="includeDeleted")] = False,
    page: PageV1 = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Page[Customer]:
    """List customers: all, or those with a text in their key, name, address or subjects, in upper or lower case."""
    asked = Filters.of(
        key=containing(key),
        name=containing(name),
        primary_email=containing(primary_email),
        subject=containing(subject),
        plan_key=None if plan_key is None else Condition(EQ, (plan_key,)),
    )
    customers, total = _listed(stores, asked, include_deleted, page, page_size)
    return Page(total_count=total, page=page, page_size=page_size, items=customers)


@v3(get, "/customers", on=listing, tags=TAGS)
def list_customers_v3(
    stores: Stores, asked: Asked, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE
) -> NumberedPage[Customer]:
    """List customers."""
    customers, total = _listed(stores, asked, False, number, size)
    return NumberedPage.part(customers, number, size, total)


ROUTES = [
    *create_customer,
    *get_customer,
    *update_customer,
    *delete_customer,
    list_customers_v1,
    list_customers_v3,
]
