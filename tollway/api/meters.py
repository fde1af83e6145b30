"""
Meters, made and read through the control plane.

A meter is known by its key; its id is derived from that and the instant it was made.
"""

from __future__ import annotations

from litestar import get, post, put
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from rating.catalog import MeterSet
from rating.meters import Aggregation, Meter
from tollway.api import notes
from tollway.api.filters import Asked
from tollway.api.problems import bad_request, conflict, not_found
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import listing, threaded
from tollway.api.wire import (
    PAGE_SIZE,
    PAGE_SIZE_MAX,
    Json,
    Metadata,
    Page,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    Text,
    camel,
    compact,
    derived_id,
    instant,
    labelled,
    page_v3,
)
from tollway.ledger_reads import Connection


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
    return find_meter(stores, meter.key)


def find_meter(stores: ApiStores, id_or_slug: str) -> Json:
    with stores.connection() as connection:
        for found in meters(connection):
            if id_or_slug in (found["slug"], found["id"]):
                return found
    raise not_found("meter", id_or_slug)


def meters(connection: Connection) -> list[Json]:
    """All meters, in snake_case."""
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


@post("/api/v1/meters", status_code=201, tags=["Set-up"])
@threaded
def create_meter_v1(data: JSONBody[MeterCreate], stores: Stores) -> Json:
    """Create a meter."""
    return camel(_create_meter(stores, data))


@get("/api/v1/meters", tags=["Set-up"])
@listing
def list_meters_v1(stores: Stores, page: Page = 1, page_size: PageSizeV1 = PAGE_SIZE_MAX) -> list[Json]:
    """List meters."""
    with stores.connection() as connection:
        found = meters(connection)
    return camel(found[(page - 1) * page_size : page * page_size])


@get("/api/v1/meters/{meter:str}", tags=["Set-up"])
@listing
def get_meter_v1(meter: FromPath[str], stores: Stores) -> Json:
    """A meter by id or slug."""
    return camel(find_meter(stores, meter))


@put("/api/v1/meters/{meter:str}", tags=["Set-up"])
@threaded
def update_meter_v1(meter: FromPath[str], data: JSONBody[MeterUpdate], stores: Stores) -> Json:
    """
    Replace what a meter is called: what is left out is emptied, and the name is then the slug.

    What it counts never changes, its dimensions included, and need not be sent.
    """
    key = find_meter(stores, meter)["slug"]
    with stores.changing() as changes:
        known = changes.meter(key)
        changes.put_meter(
            Meter(
                key=key,
                event_type=known.event_type,
                aggregation=known.aggregation,
                value_property=known.value_property,
                group_by=known.group_by if data.group_by is None else data.group_by,
                name=data.name or "",
                description=data.description or "",
            )
        )
        notes.write(changes, "meter", key, {"metadata": data.metadata})
    return camel(find_meter(stores, key))


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
@listing
def list_meters_v3(stores: Stores, asked: Asked, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE) -> Json:
    """List meters."""
    with stores.connection() as connection:
        found = asked.chosen([meter_body_v3(found) for found in meters(connection)])
    return page_v3(found, number, size)


@get("/api/v3/openmeter/meters/{meter:str}", tags=["Set-up"])
@listing
def get_meter_v3(meter: FromPath[str], stores: Stores) -> Json:
    """A meter by id or key."""
    return meter_body_v3(find_meter(stores, meter))


ROUTES = [
    create_meter_v1,
    list_meters_v1,
    get_meter_v1,
    update_meter_v1,
    create_meter_v3,
    list_meters_v3,
    get_meter_v3,
]
