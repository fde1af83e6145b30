"""Features, made and read through the control plane; their ids are derived as those of meters are."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from rating.catalog import FeatureSet
from rating.meters import Feature, read_filters
from tollway.api import notes
from tollway.api.filters import Asked
from tollway.api.meters import find_meter, meters
from tollway.api.problems import Problem, bad_request, conflict, not_found
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import listing, threaded
from tollway.api.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    PageNumberV3,
    PageOrAll,
    PageSizeV1,
    PageSizeV3,
    Text,
    camel,
    compact,
    derived_id,
    instant,
    labelled,
    listed,
    page_v1,
    page_v3,
)
from tollway.ledger_reads import Connection


class FeatureCreate(Struct, rename="camel", kw_only=True):
    """A feature: what is sold, as all usage of a meter or a part of it."""

    key: str
    name: Text
    meter_slug: str | None = None
    meter_group_by_filters: dict[str, str] | None = None
    others: bool = False
    """Whether it takes only what no other feature of the customer's plan takes of the meter."""
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
    others: bool = False
    """Whether it takes only what no other feature of the customer's plan takes of the meter."""
    labels: Metadata | None = None
    metadata: Metadata | None = None


def _create_feature(stores: ApiStores, body: FeatureCreate) -> Json:
    filters = read_filters(body.meter_group_by_filters or {})
    meter_key = None if body.meter_slug is None else _meter_key(stores, body.meter_slug)
    feature = Feature(key=body.key, name=body.name, meter_key=meter_key, filters=filters, others=body.others)
    with stores.changing() as changes:
        if changes.find_feature(feature.key) is not None:
            raise conflict("key", f"there is a feature `{feature.key}` already")
        changes.put_feature(feature)
        notes.write(changes, "feature", feature.key, {"metadata": body.metadata})
    return find_feature(stores, feature.key)


def _meter_key(stores: ApiStores, id_or_slug: str) -> str:
    try:
        return str(find_meter(stores, id_or_slug)["slug"])
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
            "others": feature.others or None,
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
@listing
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
@listing
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
        others=data.others,
        metadata=data.labels or data.metadata,
    )
    return feature_body_v3(_create_feature(stores, body))


@get("/api/v3/openmeter/features", tags=["Set-up"])
@listing
def list_features_v3(stores: Stores, asked: Asked, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE) -> Json:
    """List features."""
    with stores.connection() as connection:
        found = [feature_body_v3(found) for found in features(connection)]
        if "meter_id" in asked.conditions:
            ids = {meter["slug"]: meter["id"] for meter in meters(connection)}
            found = [body for body in found if asked.hold("meter_id", ids.get(body.get("meter_slug")))]
    return page_v3(asked.only("key", "name").chosen(found), number, size)


@get("/api/v3/openmeter/features/{feature:str}", tags=["Set-up"])
@listing
def get_feature_v3(feature: FromPath[str], stores: Stores) -> Json:
    """A feature by id or key."""
    return feature_body_v3(find_feature(stores, feature))


ROUTES = [
    create_feature_v1,
    list_features_v1,
    get_feature_v1,
    create_feature_v3,
    list_features_v3,
    get_feature_v3,
]
