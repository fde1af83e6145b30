"""Customers, made, changed and deleted through the control plane."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Struct
from ulid import ULID

from rating.catalog import Customer
from rating.money import plain
from tollway.api import notes
from tollway.api.filters import EQ, Asked, Condition, Filters, Many, containing
from tollway.api.problems import Problem, conflict, not_found
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import listing, threaded
from tollway.api.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    Numeric,
    Page,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    Text,
    amount,
    camel,
    compact,
    instant,
    labelled,
)
from tollway.control import Changes, CustomerDraft
from tollway.ledger_reads import Connection


class UsageAttribution(Struct, rename="camel", kw_only=True):
    """The subjects whose usage is the customer's; its key always is one."""

    subject_keys: list[str]


class CustomerCreate(Struct, rename="camel", kw_only=True):
    """A customer."""

    name: Text
    key: str | None = None
    description: Text | None = None
    metadata: Metadata | None = None
    usage_attribution: UsageAttribution | None = None
    primary_email: Text | None = None
    currency: str | None = None
    billing_address: Json | None = None
    block_when_exhausted: bool | None = None
    """Block under `credit_then_invoice` too when no credit is left."""
    low_balance_thresholds: list[Numeric] | None = None
    """Live balances at or below which a signal is raised."""


class UsageAttributionV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """The subjects whose usage is the customer's; its key always is one."""

    subject_keys: list[str]


class CustomerCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A customer."""

    name: Text
    key: str
    description: Text | None = None
    labels: Metadata | None = None
    usage_attribution: UsageAttributionV3 | None = None
    primary_email: Text | None = None
    currency: str | None = None
    billing_address: Json | None = None
    block_when_exhausted: bool | None = None
    """Block under `credit_then_invoice` too when no credit is left."""
    low_balance_thresholds: list[Numeric] | None = None
    """Live balances at or below which a signal is raised."""


def _put_customer(changes: Changes, key: str, body: CustomerCreate) -> Customer:
    subjects = body.usage_attribution.subject_keys if body.usage_attribution is not None else []
    draft = CustomerDraft(
        key=key,
        name=body.name,
        currency=body.currency or None,
        subjects=tuple(subjects),
        block_when_exhausted=bool(body.block_when_exhausted),
        low_balance_thresholds=tuple(amount(text) for text in body.low_balance_thresholds or ()),
    )
    customer = changes.put_customer(draft)
    written = {
        "description": body.description,
        "metadata": body.metadata,
        "primary_email": body.primary_email,
        "billing_address": body.billing_address,
    }
    notes.write(changes, "customer", customer.id, written)
    return customer


def _create_customer(stores: ApiStores, body: CustomerCreate) -> Json:
    key = body.key or str(ULID())
    with stores.changing() as changes:
        known = changes.find_customer_by_key(key)
        if known is not None:
            if known.deleted_at is not None:
                raise conflict("key", f"there was a customer `{key}` that is deleted; its ledger stays, and so its key")
            raise conflict("key", f"there is a customer `{key}` already")
        customer = _put_customer(changes, key, body)
    return _read_customer(stores, customer.id)


def _replace_customer(stores: ApiStores, id_or_key: str, body: CustomerCreate) -> Json:
    with stores.changing() as changes:
        known = changes.find_customer(id_or_key)
        if known is None:
            raise not_found("customer", id_or_key)
        if known.deleted_at is not None:
            raise gone(known)
        if body.key is not None and body.key != known.key:
            raise conflict("key", f"expected `{known.key}`: a customer's key does not change")
        customer = _put_customer(changes, known.key, body)
    return _read_customer(stores, customer.id)


def gone(customer: Customer) -> Problem:
    """What is answered for a customer that was deleted, wherever it is to be changed or given something."""
    assert customer.deleted_at is not None
    detail = (
        f"customer `{customer.key}` was deleted at {instant(customer.deleted_at)}; its ledger stays, and so its key"
    )
    return Problem(404, detail)


def _delete_customer(stores: ApiStores, id_or_key: str) -> None:
    with stores.changing() as changes:
        known = changes.find_customer(id_or_key)
        if known is None:
            raise not_found("customer", id_or_key)
        if known.deleted_at is not None:
            raise gone(known)
        changes.delete_customer(known.id)


def _read_customer(stores: ApiStores, id_or_key: str) -> Json:
    with stores.connection() as connection:
        condition = "where id = %s or key = %s order by id = %s desc limit 1"
        for found in notes.read(connection, "customer", condition, id_or_key, id_or_key, id_or_key):
            return _customer_bodies(connection, [found])[0]
    raise not_found("customer", id_or_key)


def _customer_bodies(connection: Connection, found: list[notes.Noted]) -> list[Json]:
    ids = [noted.record.id for noted in found if isinstance(noted.record, Customer)]
    now = datetime.now(UTC)
    current = dict(
        connection.execute(
            "select customer_id, max(id) from subscriptions where customer_id = any(%s)"
            " and (body ->> 'active_from')::timestamptz <= %s"
            " and coalesce((body ->> 'active_to')::timestamptz > %s, true) group by customer_id",
            (ids, now, now),
        ).fetchall()
    )
    return [_customer_body(noted, current) for noted in found]


def _customer_body(found: notes.Noted, current: dict[str, str]) -> Json:
    customer = found.record
    assert isinstance(customer, Customer)
    return compact(
        {
            "id": customer.id,
            "key": customer.key,
            "name": customer.name,
            "currency": customer.currency,
            "usage_attribution": {"subject_keys": list(customer.subjects)},
            "current_subscription_id": current.get(customer.id),
            "block_when_exhausted": customer.block_when_exhausted,
            "low_balance_thresholds": [plain(limit) for limit in customer.low_balance_thresholds],
            "created_at": instant(found.created_at),
            "updated_at": instant(max(found.updated_at, customer.deleted_at or found.updated_at)),
            "deleted_at": instant(customer.deleted_at),
        }
        | found.notes
    )


COLUMNS: Final[Mapping[str, str | Many]] = {
    "key": "found.key",
    "name": "(found.body ->> 'name')",
    "primary_email": "(notes.body ->> 'primary_email')",
    "usage_attribution_subject_key": Many(
        "select from jsonb_array_elements_text(found.body -> 'subjects') as named (subject) where true", "named.subject"
    ),
    "subject": Many("select from customer_subjects named where named.customer_id = found.id", "named.subject"),
    "plan_key": Many(
        "select from subscriptions held where held.customer_id = found.id"
        " and (held.body ->> 'active_from')::timestamptz <= now()"
        " and coalesce((held.body ->> 'active_to')::timestamptz > now(), true)",
        "(held.body ->> 'plan_key')",
    ),
}
"""Where filters find what they are about. A plan is that of an active subscription; to v1 a key is a subject too."""


def _list_customers(
    stores: ApiStores, asked: Filters, with_deleted: bool, page: int, size: int
) -> tuple[list[Json], int]:
    wanted, values = asked.sql(COLUMNS)
    condition = f"where {wanted} and (%s or found.body ->> 'deleted_at' is null)"
    values = [*values, with_deleted]
    with stores.connection() as connection:
        found = notes.read(
            connection, "customer", f"{condition} order by id limit %s offset %s", *values, size, (page - 1) * size
        )
        counted = connection.execute(f"select count(*) {notes.CUSTOMERS} {condition}", values).fetchone()
        return _customer_bodies(connection, found), int(counted[0]) if counted else 0


@post("/api/v1/customers", status_code=201, tags=["Set-up"])
@threaded
def create_customer_v1(data: JSONBody[CustomerCreate], stores: Stores) -> Json:
    """Create a customer."""
    return camel(_create_customer(stores, data))


@get("/api/v1/customers", tags=["Set-up"])
@listing
def list_customers_v1(
    stores: Stores,
    key: FromQuery[str | None] = None,
    name: FromQuery[str | None] = None,
    primary_email: Annotated[str | None, QueryParameter(name="primaryEmail")] = None,
    subject: FromQuery[str | None] = None,
    plan_key: Annotated[str | None, QueryParameter(name="planKey")] = None,
    include_deleted: Annotated[bool, QueryParameter(name="includeDeleted")] = False,
    page: Page = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Json:
    """List customers: all, or those with a text in their key, name, address or subjects, in upper or lower case."""
    asked = Filters.of(
        key=containing(key),
        name=containing(name),
        primary_email=containing(primary_email),
        subject=containing(subject),
        plan_key=None if plan_key is None else Condition(EQ, (plan_key,)),
    )
    found, total = _list_customers(stores, asked, include_deleted, page, page_size)
    return {"totalCount": total, "page": page, "pageSize": page_size, "items": camel(found)}


@get("/api/v1/customers/{customer:str}", tags=["Set-up"])
@threaded
def get_customer_v1(customer: FromPath[str], stores: Stores) -> Json:
    """A customer by id or key."""
    return camel(_read_customer(stores, customer))


@put("/api/v1/customers/{customer:str}", tags=["Set-up"])
@threaded
def update_customer_v1(customer: FromPath[str], data: JSONBody[CustomerCreate], stores: Stores) -> Json:
    """Replace what a customer says of itself: what is left out is emptied. Its key stays."""
    return camel(_replace_customer(stores, customer, data))


@delete("/api/v1/customers/{customer:str}", status_code=204, tags=["Set-up"])
@threaded
def delete_customer_v1(customer: FromPath[str], stores: Stores) -> None:
    """Delete a customer, if it has no subscription: it is no longer listed, and its ledger stays."""
    _delete_customer(stores, customer)


@post("/api/v3/openmeter/customers", status_code=201, tags=["Set-up"])
@threaded
def create_customer_v3(data: JSONBody[CustomerCreateV3], stores: Stores) -> Json:
    """Create a customer."""
    return labelled(_create_customer(stores, _from_v3(data)))


@get("/api/v3/openmeter/customers", tags=["Set-up"])
@listing
def list_customers_v3(
    stores: Stores,
    asked: Asked,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """List customers."""
    found, total = _list_customers(stores, asked, False, number, size)
    page = {"size": size, "number": number, "total": total}
    return {"data": [labelled(body) for body in found], "meta": {"page": page}}


@get("/api/v3/openmeter/customers/{customer:str}", tags=["Set-up"])
@threaded
def get_customer_v3(customer: FromPath[str], stores: Stores) -> Json:
    """A customer by id or key."""
    return labelled(_read_customer(stores, customer))


@put("/api/v3/openmeter/customers/{customer:str}", tags=["Set-up"])
@threaded
def update_customer_v3(customer: FromPath[str], data: JSONBody[CustomerCreateV3], stores: Stores) -> Json:
    """Replace what a customer says of itself: what is left out is emptied. Its key stays."""
    return labelled(_replace_customer(stores, customer, _from_v3(data)))


@delete("/api/v3/openmeter/customers/{customer:str}", status_code=204, tags=["Set-up"])
@threaded
def delete_customer_v3(customer: FromPath[str], stores: Stores) -> None:
    """Delete a customer, if it has no subscription: it is no longer listed, and its ledger stays."""
    _delete_customer(stores, customer)


def _from_v3(data: CustomerCreateV3) -> CustomerCreate:
    return CustomerCreate(
        name=data.name,
        key=data.key,
        description=data.description,
        metadata=data.labels,
        usage_attribution=None
        if data.usage_attribution is None
        else UsageAttribution(subject_keys=data.usage_attribution.subject_keys),
        primary_email=data.primary_email,
        currency=data.currency,
        billing_address=data.billing_address,
        block_when_exhausted=data.block_when_exhausted,
        low_balance_thresholds=data.low_balance_thresholds,
    )


ROUTES = [
    create_customer_v1,
    list_customers_v1,
    get_customer_v1,
    update_customer_v1,
    delete_customer_v1,
    create_customer_v3,
    list_customers_v3,
    get_customer_v3,
    update_customer_v3,
    delete_customer_v3,
]
