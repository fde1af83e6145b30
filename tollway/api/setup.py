"""
Meters, features and customers, made and read through the control plane.

A meter and a feature are known by their keys; their ids are derived from that and the instant they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, LiteralString

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Struct
from ulid import ULID

from rating.catalog import Customer, FeatureSet, MeterSet
from rating.meters import Aggregation, Feature, Meter, read_filters
from rating.money import plain
from tollway.api import notes
from tollway.api.problems import Problem, bad_request, conflict, not_found
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import threaded
from tollway.api.wire import (
    PAGE_SIZE,
    PAGE_SIZE_MAX,
    Json,
    Metadata,
    Numeric,
    Page,
    PageNumberV3,
    PageOrAll,
    PageSizeV1,
    PageSizeV3,
    Text,
    amount,
    camel,
    compact,
    derived_id,
    instant,
    listed,
    page_v1,
    page_v3,
)
from tollway.control import Changes, CustomerDraft
from tollway.ledger_reads import Connection

# -- meters -------------------------------------------------------------------------------------


class MeterCreate(Struct, rename="camel", kw_only=True):
    """A meter: what is read from the events of one type, and how it adds up."""

    slug: str
    event_type: str
    aggregation: Aggregation
    value_property: str | None = None
    """JSONPath within `data`, as in `$.tokens`; none for COUNT."""
    group_by: dict[str, str] | None = None
    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None


class MeterUpdate(Struct, rename="camel", kw_only=True):
    """What of a meter may change: how it is called. What it counts never does."""

    name: Text | None = None
    description: Text | None = None
    group_by: dict[str, str] | None = None
    metadata: Metadata | None = None


class MeterCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A meter: what is read from the events of one type, and how it adds up."""

    event_type: str
    aggregation: str
    key: str | None = None
    slug: str | None = None
    """Another name of `key`."""
    name: Text | None = None
    description: Text | None = None
    value_property: str | None = None
    dimensions: dict[str, str] | None = None
    group_by: dict[str, str] | None = None
    """Another name of `dimensions`."""
    labels: Metadata | None = None
    metadata: Metadata | None = None


def _create_meter(stores: ApiStores, body: MeterCreate) -> Json:
    meter = Meter(
        key=body.slug,
        event_type=body.event_type,
        aggregation=body.aggregation,
        value_property=body.value_property,
        group_by=body.group_by or {},
        name=body.name or "",
        description=body.description or "",
    )
    with stores.changing() as changes:
        if changes.find_meter(meter.key) is not None:
            raise conflict("slug", f"there is a meter `{meter.key}` already")
        changes.put_meter(meter)
        notes.write(changes, "meter", meter.key, {"metadata": body.metadata})
    return _find_meter(stores, meter.key)


def _find_meter(stores: ApiStores, id_or_slug: str) -> Json:
    with stores.connection() as connection:
        for found in _meters(connection):
            if id_or_slug in (found["slug"], found["id"]):
                return found
    raise not_found("meter", id_or_slug)


def _meters(connection: Connection) -> list[Json]:
    return [meter_body(found) for found in notes.read(connection, "meter", "order by key")]


def meter_body(found: notes.Noted) -> Json:
    """A meter, in snake_case."""
    assert isinstance(found.record, MeterSet)
    meter = found.record.meter
    return compact(
        {
            "id": derived_id(found.created_at, "meter", meter.key),
            "slug": meter.key,
            "name": meter.name or meter.key,
            "description": meter.description or None,
            "event_type": meter.event_type,
            "aggregation": meter.aggregation.value,
            "value_property": meter.value_property,
            "group_by": meter.group_by,
            "created_at": instant(found.created_at),
            "updated_at": instant(found.updated_at),
        }
        | found.notes
    )


def meter_body_v3(body: Json) -> Json:
    """A meter as v3 has it: with the names of both APIs."""
    return labelled(body) | {"key": body["slug"], "dimensions": body["group_by"]}


def labelled(body: Json) -> Json:
    """A body with its metadata called labels, as v3 has it."""
    return {"labels" if name == "metadata" else name: value for name, value in body.items()}


@post("/api/v1/meters", status_code=201, tags=["Set-up"])
@threaded
def create_meter_v1(data: JSONBody[MeterCreate], stores: Stores) -> Json:
    """Create a meter."""
    return camel(_create_meter(stores, data))


@get("/api/v1/meters", tags=["Set-up"])
@threaded
def list_meters_v1(stores: Stores, page: Page = 1, page_size: PageSizeV1 = PAGE_SIZE_MAX) -> list[Json]:
    """List meters."""
    with stores.connection() as connection:
        found = _meters(connection)
    return camel(found[(page - 1) * page_size : page * page_size])


@get("/api/v1/meters/{meter:str}", tags=["Set-up"])
@threaded
def get_meter_v1(meter: FromPath[str], stores: Stores) -> Json:
    """A meter by id or slug."""
    return camel(_find_meter(stores, meter))


@put("/api/v1/meters/{meter:str}", tags=["Set-up"])
@threaded
def update_meter_v1(meter: FromPath[str], data: JSONBody[MeterUpdate], stores: Stores) -> Json:
    """Rename a meter, or describe it anew."""
    key = _find_meter(stores, meter)["slug"]
    with stores.changing() as changes:
        known = changes.meter(key)
        changes.put_meter(
            Meter(
                key=key,
                event_type=known.event_type,
                aggregation=known.aggregation,
                value_property=known.value_property,
                group_by=known.group_by if data.group_by is None else data.group_by,
                name=known.name if data.name is None else data.name,
                description=known.description if data.description is None else data.description,
            )
        )
        notes.write(changes, "meter", key, {"metadata": data.metadata})
    return camel(_find_meter(stores, key))


@post("/api/v3/openmeter/meters", status_code=201, tags=["Set-up"])
@threaded
def create_meter_v3(data: JSONBody[MeterCreateV3], stores: Stores) -> Json:
    """Create a meter."""
    slug = data.key or data.slug
    if slug is None:
        raise bad_request("key", "a meter has a key", "required")
    try:
        aggregation = Aggregation(data.aggregation.upper())
    except ValueError:
        raise bad_request("aggregation", f"expected one of {', '.join(kind.lower() for kind in Aggregation)}") from None
    body = MeterCreate(
        slug=slug,
        event_type=data.event_type,
        aggregation=aggregation,
        value_property=data.value_property,
        group_by=data.dimensions or data.group_by,
        name=data.name,
        description=data.description,
        metadata=data.labels or data.metadata,
    )
    return meter_body_v3(_create_meter(stores, body))


@get("/api/v3/openmeter/meters", tags=["Set-up"])
@threaded
def list_meters_v3(stores: Stores, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE) -> Json:
    """List meters."""
    with stores.connection() as connection:
        return page_v3([meter_body_v3(found) for found in _meters(connection)], number, size)


@get("/api/v3/openmeter/meters/{meter:str}", tags=["Set-up"])
@threaded
def get_meter_v3(meter: FromPath[str], stores: Stores) -> Json:
    """A meter by id or key."""
    return meter_body_v3(_find_meter(stores, meter))


# -- features -----------------------------------------------------------------------------------


class FeatureCreate(Struct, rename="camel", kw_only=True):
    """A feature: what is sold, as all usage of a meter or a part of it."""

    key: str
    name: Text
    meter_slug: str | None = None
    meter_group_by_filters: dict[str, str] | None = None
    metadata: Metadata | None = None


class MeterReference(Struct, kw_only=True, forbid_unknown_fields=True):
    """The meter of a feature, and which of its usage counts."""

    key: str | None = None
    id: str | None = None
    filters: dict[str, Any] | None = None


class FeatureCreateV3(Struct, kw_only=True, forbid_unknown_fields=True):
    """A feature: what is sold, as all usage of a meter or a part of it."""

    key: str
    name: Text
    meter: MeterReference | None = None
    meter_slug: str | None = None
    meter_group_by_filters: dict[str, str] | None = None
    labels: Metadata | None = None
    metadata: Metadata | None = None


def _create_feature(stores: ApiStores, body: FeatureCreate) -> Json:
    filters = read_filters(body.meter_group_by_filters or {})
    meter_key = None if body.meter_slug is None else _meter_key(stores, body.meter_slug)
    feature = Feature(key=body.key, name=body.name, meter_key=meter_key, filters=filters)
    with stores.changing() as changes:
        if changes.find_feature(feature.key) is not None:
            raise conflict("key", f"there is a feature `{feature.key}` already")
        changes.put_feature(feature)
        notes.write(changes, "feature", feature.key, {"metadata": body.metadata})
    return find_feature(stores, feature.key)


def _meter_key(stores: ApiStores, id_or_slug: str) -> str:
    try:
        return str(_find_meter(stores, id_or_slug)["slug"])
    except Problem as problem:
        raise bad_request("meter_slug", problem.detail, "not_found") from problem


def find_feature(stores: ApiStores, id_or_key: str) -> Json:
    """A feature by id or key, in snake_case. Raises `Problem`."""
    with stores.connection() as connection:
        for found in features(connection):
            if id_or_key in (found["key"], found["id"]):
                return found
    raise not_found("feature", id_or_key)


def features(connection: Connection) -> list[Json]:
    """All features, in snake_case."""
    return [feature_body(found) for found in notes.read(connection, "feature", "order by key")]


def feature_body(found: notes.Noted) -> Json:
    """A feature, in snake_case."""
    assert isinstance(found.record, FeatureSet)
    feature = found.record.feature
    return compact(
        {
            "id": derived_id(found.created_at, "feature", feature.key),
            "key": feature.key,
            "name": feature.name or feature.key,
            "meter_slug": feature.meter_key,
            "meter_group_by_filters": {name: texts[0] for name, texts in feature.filters.items() if len(texts) == 1}
            or None,
            "advanced_meter_group_by_filters": {
                name: {"$in": list(texts)} for name, texts in feature.filters.items() if len(texts) > 1
            }
            or None,
            "created_at": instant(found.created_at),
            "updated_at": instant(found.updated_at),
        }
        | found.notes
    )


def feature_body_v3(body: Json) -> Json:
    """A feature as v3 has it: with the names of both APIs."""
    body = labelled(body)
    if "meter_slug" not in body:
        return body
    filters: Json = {name: {"eq": text} for name, text in body.get("meter_group_by_filters", {}).items()}
    filters |= {
        name: {"oneof": wanted["$in"]} for name, wanted in body.get("advanced_meter_group_by_filters", {}).items()
    }
    shown = {name: value for name, value in body.items() if name != "advanced_meter_group_by_filters"}
    return shown | {"meter": compact({"key": body["meter_slug"], "filters": filters or None})}


@post("/api/v1/features", status_code=201, tags=["Set-up"])
@threaded
def create_feature_v1(data: JSONBody[FeatureCreate], stores: Stores) -> Json:
    """Create a feature."""
    return camel(_create_feature(stores, data))


@get("/api/v1/features", tags=["Set-up"])
@threaded
def list_features_v1(
    stores: Stores,
    meter_slug: Annotated[list[str] | None, QueryParameter(name="meterSlug")] = None,
    page: PageOrAll = None,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> list[Json] | Json:
    """List features: a page where one is asked for, else all of them."""
    with stores.connection() as connection:
        found = features(connection)
    wanted = listed(meter_slug)
    found = [feature for feature in found if not wanted or feature.get("meter_slug") in wanted]
    return camel(found if page is None else page_v1(found, page, page_size))


@get("/api/v1/features/{feature:str}", tags=["Set-up"])
@threaded
def get_feature_v1(feature: FromPath[str], stores: Stores) -> Json:
    """A feature by id or key."""
    return camel(find_feature(stores, feature))


@post("/api/v3/openmeter/features", status_code=201, tags=["Set-up"])
@threaded
def create_feature_v3(data: JSONBody[FeatureCreateV3], stores: Stores) -> Json:
    """Create a feature."""
    meter = data.meter or MeterReference()
    filters = dict(data.meter_group_by_filters or {})
    for name, wanted in (meter.filters or {}).items():
        text = wanted.get("eq") if isinstance(wanted, dict) and len(wanted) == 1 else wanted
        if not isinstance(text, str):
            raise bad_request(f"meter.filters.{name}", 'expected a text, or {"eq": text}')
        filters[name] = text
    body = FeatureCreate(
        key=data.key,
        name=data.name,
        meter_slug=data.meter_slug or meter.key or meter.id,
        meter_group_by_filters=filters,
        metadata=data.labels or data.metadata,
    )
    return feature_body_v3(_create_feature(stores, body))


@get("/api/v3/openmeter/features", tags=["Set-up"])
@threaded
def list_features_v3(stores: Stores, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE) -> Json:
    """List features."""
    with stores.connection() as connection:
        return page_v3([feature_body_v3(found) for found in features(connection)], number, size)


@get("/api/v3/openmeter/features/{feature:str}", tags=["Set-up"])
@threaded
def get_feature_v3(feature: FromPath[str], stores: Stores) -> Json:
    """A feature by id or key."""
    return feature_body_v3(find_feature(stores, feature))


# -- customers ----------------------------------------------------------------------------------


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


def _put_customer(changes: Changes, key: str, body: CustomerCreate, known: Customer | None) -> Customer:
    thresholds: Sequence[Decimal] | None = None
    if body.low_balance_thresholds is not None:
        thresholds = [amount(text) for text in body.low_balance_thresholds]
    subjects = body.usage_attribution.subject_keys if body.usage_attribution is not None else []
    blocks = body.block_when_exhausted
    draft = CustomerDraft(
        key=key,
        name=body.name,
        currency=body.currency or (known.currency if known else "USD"),
        subjects=tuple(subjects),
        block_when_exhausted=bool(known and known.block_when_exhausted) if blocks is None else blocks,
        low_balance_thresholds=tuple(known.low_balance_thresholds if known else ())
        if thresholds is None
        else tuple(thresholds),
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
            there = "was a customer `{}` that is deleted; its ledger stays" if is_deleted(changes, known.id) else None
            raise conflict("key", f"there {(there or 'is a customer `{}` already').format(key)}")
        customer = _put_customer(changes, key, body, None)
    return _read_customer(stores, customer.id)


def _replace_customer(stores: ApiStores, id_or_key: str, body: CustomerCreate) -> Json:
    with stores.changing() as changes:
        known = changes.find_customer(id_or_key)
        if known is None or is_deleted(changes, known.id):
            raise not_found("customer", id_or_key)
        if body.key is not None and body.key != known.key:
            raise conflict("key", f"expected `{known.key}`: a customer's key does not change")
        customer = _put_customer(changes, known.key, body, known)
    return _read_customer(stores, customer.id)


def is_deleted(changes: Changes, customer_id: str) -> bool:
    """Whether a customer was deleted. What it was charged stays, and so do its id and key."""
    return bool(
        changes.rows("select from api_notes where kind = 'customer' and ref = %s and body ? 'deleted_at'", customer_id)
    )


def _delete_customer(stores: ApiStores, id_or_key: str) -> None:
    with stores.changing() as changes:
        known = changes.find_customer(id_or_key)
        if known is None or is_deleted(changes, known.id):
            raise not_found("customer", id_or_key)
        now = changes.now()
        for held in changes.subscriptions(known.id).values():
            if held.active_to is None or held.active_to > max(now, held.active_from):
                raise conflict("id", f"customer `{known.key}` has subscription `{held.id}`: cancel that first")
        # Others may have its subjects from now on; the key stays its own, as the ledger has it.
        changes.put_customer(
            CustomerDraft(
                key=known.key,
                name=known.name,
                currency=known.currency,
                block_when_exhausted=known.block_when_exhausted,
                low_balance_thresholds=known.low_balance_thresholds,
            )
        )
        written = changes.rows("select body::text from api_notes where kind = 'customer' and ref = %s", known.id)
        found: Json = msgspec.json.decode(written[0][0]) if written else {}
        notes.write(changes, "customer", known.id, found | {"deleted_at": instant(now)})


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
            "updated_at": instant(found.updated_at),
        }
        | found.notes
    )


def _list_customers(
    stores: ApiStores, key: str | None, subject: str | None, with_deleted: bool, page: int, size: int
) -> tuple[list[Json], int]:
    condition: LiteralString = (
        "where (%s::text is null or key ilike '%%' || %s || '%%') and (%s::text is null or exists"
        " (select from customer_subjects where customer_id = id and customer_subjects.subject = %s))"
        " and (%s or not exists (select from api_notes as written where written.kind = 'customer'"
        " and written.ref = id and written.body ? 'deleted_at'))"
    )
    values = key, key, subject, subject, with_deleted
    with stores.connection() as connection:
        found = notes.read(
            connection, "customer", f"{condition} order by id limit %s offset %s", *values, size, (page - 1) * size
        )
        counted = connection.execute(f"select count(*) from customers {condition}", values).fetchone()
        return _customer_bodies(connection, found), int(counted[0]) if counted else 0


@post("/api/v1/customers", status_code=201, tags=["Set-up"])
@threaded
def create_customer_v1(data: JSONBody[CustomerCreate], stores: Stores) -> Json:
    """Create a customer."""
    return camel(_create_customer(stores, data))


@get("/api/v1/customers", tags=["Set-up"])
@threaded
def list_customers_v1(
    stores: Stores,
    key: FromQuery[str | None] = None,
    subject: FromQuery[str | None] = None,
    include_deleted: Annotated[bool, QueryParameter(name="includeDeleted")] = False,
    page: Page = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Json:
    """List customers, all or those with a key or a subject."""
    found, total = _list_customers(stores, key, subject, include_deleted, page, page_size)
    return {"totalCount": total, "page": page, "pageSize": page_size, "items": camel(found)}


@get("/api/v1/customers/{customer:str}", tags=["Set-up"])
@threaded
def get_customer_v1(customer: FromPath[str], stores: Stores) -> Json:
    """A customer by id or key."""
    return camel(_read_customer(stores, customer))


@put("/api/v1/customers/{customer:str}", tags=["Set-up"])
@threaded
def update_customer_v1(customer: FromPath[str], data: JSONBody[CustomerCreate], stores: Stores) -> Json:
    """Replace what a customer says of itself; its key stays."""
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
@threaded
def list_customers_v3(
    stores: Stores,
    key: Annotated[str | None, QueryParameter(name="filter[key]")] = None,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """List customers."""
    found, total = _list_customers(stores, key, None, False, number, size)
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
    """Replace what a customer says of itself; its key stays."""
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
    create_meter_v1,
    list_meters_v1,
    get_meter_v1,
    update_meter_v1,
    create_meter_v3,
    list_meters_v3,
    get_meter_v3,
    create_feature_v1,
    list_features_v1,
    get_feature_v1,
    create_feature_v3,
    list_features_v3,
    get_feature_v3,
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
