"""
Meters: what is read from the events of one type, and how it adds up.

A meter is known by its key; its id is derived from that and the instant it was made.
"""

from __future__ import annotations

from datetime import datetime

from litestar import get, post, put
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace

from rating import meters as core
from rating.catalog import MeterSet
from rating.meters import Aggregation
from tollway.control import notes
from tollway.ledger_reads import Connection
from tollway.openmeter.filters import Asked
from tollway.openmeter.problems import bad_request, conflict, not_found
from tollway.openmeter.routes import both, v1, v3
from tollway.openmeter.shapes import Body, NumberedPage, View
from tollway.openmeter.stores import ApiStores, Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import (
    PAGE_SIZE,
    PAGE_SIZE_MAX,
    Metadata,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    Text,
    derived_id,
)
from tollway.openmeter.wire import Page as PageV1

TAGS = ["Set-up"]


class MeterCreate(Body):
    """A meter: what is read from the events of one type, and how it adds up."""

    event_type: str
    aggregation: str
    key: str | None = None
    slug: str | None = None
    """Another name of `key`."""
    name: Text | None = None
    description: Text | None = None
    value_property: str | None = None
    """JSONPath within `data`, as in `$.tokens`; none for COUNT."""
    dimensions: dict[str, str] | None = None
    group_by: dict[str, str] | None = None
    """Another name of `dimensions`."""
    labels: Metadata | None = None
    metadata: Metadata | None = None


class MeterUpdate(Body):
    """What of a meter may change: how it is called. What it counts never does."""

    name: Text | None = None
    description: Text | None = None
    dimensions: dict[str, str] | None = None
    labels: Metadata | None = None


class Meter(View, frozen=True):
    """What is read from the events of one type, and how it adds up."""

    id: str
    key: str
    slug: str
    name: str
    event_type: str
    aggregation: Aggregation
    dimensions: dict[str, str]
    group_by: dict[str, str]
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    value_property: str | None = None
    labels: Metadata | None = None


def view(noted: notes.Noted) -> Meter:
    """A meter as it is shown."""
    assert isinstance(noted.record, MeterSet)
    meter = noted.record.meter
    dimensions = dict(meter.group_by)
    return Meter(
        id=derived_id(noted.created_at, "meter", meter.key),
        key=meter.key,
        slug=meter.key,
        name=meter.name or meter.key,
        description=meter.description or None,
        event_type=meter.event_type,
        aggregation=meter.aggregation,
        value_property=meter.value_property,
        dimensions=dimensions,
        group_by=dimensions,
        created_at=noted.created_at,
        updated_at=noted.updated_at,
        labels=noted.notes.get("metadata"),
    )


def meters(connection: Connection) -> list[Meter]:
    """All meters, by key."""
    return [view(noted) for noted in notes.read(connection, "meter", "noted_in_order")]


def read_meter(connection: Connection, id_or_key: str) -> Meter:
    """A meter by id or key. Raises `Problem`."""
    for meter in meters(connection):
        if id_or_key in (meter.key, meter.id):
            return meter
    raise not_found("meter", id_or_key)


def find_meter(stores: ApiStores, id_or_key: str) -> Meter:
    """The same, on a connection of its own."""
    with stores.connection() as connection:
        return read_meter(connection, id_or_key)


@both(post, "/meters", status_code=201, tags=TAGS)
def create_meter(data: JSONBody[MeterCreate], stores: Stores) -> Meter:
    """Create a meter."""
    meter = core.Meter(
        key=_key(data),
        event_type=data.event_type,
        aggregation=_aggregation(data.aggregation),
        value_property=data.value_property,
        group_by=data.dimensions or data.group_by or {},
        name=data.name or "",
        description=data.description or "",
    )
    with stores.changing() as changes:
        if changes.find_meter(meter.key) is not None:
            raise conflict("key", f"there is a meter `{meter.key}` already")
        changes.put_meter(meter)
        notes.write(changes, "meter", meter.key, {"metadata": data.labels or data.metadata})
    return find_meter(stores, meter.key)


def _key(data: MeterCreate) -> str:
    key = data.slug if data.key is None else data.key
    if key is None:
        raise bad_request("key", "a meter has a key", "required")
    return key


def _aggregation(name: str) -> Aggregation:
    try:
        return Aggregation(name.upper())
    except ValueError:
        raise bad_request("aggregation", f"expected one of {', '.join(kind.lower() for kind in Aggregation)}") from None


@both(get, "/meters/{meter:str}", on=listing, tags=TAGS)
def get_meter(meter: FromPath[str], stores: Stores) -> Meter:
    """A meter by id or key, which v1 calls its slug."""
    return find_meter(stores, meter)


@v1(put, "/meters/{meter:str}", tags=TAGS)
def update_meter_v1(meter: FromPath[str], data: JSONBody[MeterUpdate], stores: Stores) -> Meter:
    """
    Replace what a meter is called: what is left out is emptied, and the name is then the slug.

    What it counts never changes, its dimensions included, and need not be sent.
    """
    key = find_meter(stores, meter).key
    with stores.changing() as changes:
        known = changes.meter(key)
        dimensions = known.group_by if data.dimensions is None else data.dimensions
        changes.put_meter(replace(known, group_by=dimensions, name=data.name or "", description=data.description or ""))
        notes.write(changes, "meter", key, {"metadata": data.labels})
    return find_meter(stores, key)


@v1(get, "/meters", on=listing, tags=TAGS)
def list_meters_v1(stores: Stores, page: PageV1 = 1, page_size: PageSizeV1 = PAGE_SIZE_MAX) -> list[Meter]:
    """List meters."""
    with stores.connection() as connection:
        return meters(connection)[(page - 1) * page_size : page * page_size]


@v3(get, "/meters", on=listing, tags=TAGS)
def list_meters_v3(
    stores: Stores, asked: Asked, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE
) -> NumberedPage[Meter]:
    """List meters."""
    with stores.connection() as connection:
        return NumberedPage.of(asked.chosen(meters(connection)), number, size)


ROUTES = [*create_meter, *get_meter, update_meter_v1, list_meters_v1, list_meters_v3]
