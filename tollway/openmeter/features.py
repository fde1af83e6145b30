"""Features: what is sold, as all usage of a meter or a part of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from litestar import get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from rating import meters as core
from rating.catalog import FeatureSet
from tollway.control import notes
from tollway.ledger_reads import Connection
from tollway.openmeter.filters import Asked
from tollway.openmeter.meters import find_meter, meters
from tollway.openmeter.problems import Problem, bad_request, conflict, not_found
from tollway.openmeter.routes import both, v1, v3
from tollway.openmeter.shapes import Body, NumberedPage, Page, View
from tollway.openmeter.stores import ApiStores, Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    PageNumberV3,
    PageOrAll,
    PageSizeV1,
    PageSizeV3,
    Text,
    derived_id,
    listed,
)

TAGS = ["Set-up"]


class MeterReference(Body):
    """The meter of a feature, and which of its usage counts."""

    key: str | None = None
    id: str | None = None
    filters: dict[str, Any] | None = None


class FeatureCreate(Body):
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


class FeatureMeter(View, frozen=True):
    """The meter of a feature, and which of its usage counts."""

    key: str
    filters: dict[str, Json] | None = None


class Feature(View, frozen=True):
    """What is sold, as all usage of a meter or a part of it."""

    id: str
    key: str
    name: str
    created_at: datetime
    updated_at: datetime
    meter: FeatureMeter | None = None
    meter_slug: str | None = None
    meter_group_by_filters: dict[str, str] | None = None
    advanced_meter_group_by_filters: dict[str, Json] | None = None
    others: bool | None = None
    labels: Metadata | None = None


def view(noted: notes.Noted) -> Feature:
    """A feature as it is shown."""
    assert isinstance(noted.record, FeatureSet)
    feature = noted.record.feature
    one = {name: texts[0] for name, texts in feature.filters.items() if len(texts) == 1}
    several = {name: list(texts) for name, texts in feature.filters.items() if len(texts) > 1}
    filters: Json = {name: {"eq": text} for name, text in one.items()}
    filters |= {name: {"oneof": texts} for name, texts in several.items()}
    return Feature(
        id=derived_id(noted.created_at, "feature", feature.key),
        key=feature.key,
        name=feature.name or feature.key,
        meter=FeatureMeter(key=feature.meter_key, filters=filters or None) if feature.meter_key else None,
        meter_slug=feature.meter_key,
        meter_group_by_filters=one or None,
        advanced_meter_group_by_filters={name: {"$in": texts} for name, texts in several.items()} or None,
        others=feature.others or None,
        created_at=noted.created_at,
        updated_at=noted.updated_at,
        labels=noted.notes.get("metadata"),
    )


def features(connection: Connection) -> list[Feature]:
    """All features, by key."""
    return [view(noted) for noted in notes.read(connection, "feature", "noted_in_order")]


def find_feature(stores: ApiStores, id_or_key: str) -> Feature:
    """A feature by id or key. Raises `Problem`."""
    with stores.connection() as connection:
        for feature in features(connection):
            if id_or_key in (feature.key, feature.id):
                return feature
    raise not_found("feature", id_or_key)


@both(post, "/features", status_code=201, tags=TAGS)
def create_feature(data: JSONBody[FeatureCreate], stores: Stores) -> Feature:
    """Create a feature."""
    reference = data.meter or MeterReference()
    id_or_key = next((name for name in (data.meter_slug, reference.key, reference.id) if name is not None), None)
    feature = core.Feature(
        key=data.key,
        name=data.name,
        meter_key=None if id_or_key is None else _meter_key(stores, id_or_key),
        filters=core.read_filters((data.meter_group_by_filters or {}) | _equal(reference.filters or {})),
        others=data.others,
    )
    with stores.changing() as changes:
        if changes.find_feature(feature.key) is not None:
            raise conflict("key", f"there is a feature `{feature.key}` already")
        changes.put_feature(feature)
        notes.write(changes, "feature", feature.key, {"metadata": data.labels or data.metadata})
    return find_feature(stores, feature.key)


def _meter_key(stores: ApiStores, id_or_key: str) -> str:
    try:
        return find_meter(stores, id_or_key).key
    except Problem as problem:
        raise bad_request("meter_slug", problem.detail, "not_found") from problem


def _equal(filters: dict[str, Any]) -> dict[str, str]:
    """Filters of a meter, each as the one text that it asks for."""
    texts: dict[str, str] = {}
    for name, wanted in filters.items():
        text = wanted.get("eq") if isinstance(wanted, dict) and len(wanted) == 1 else wanted
        if not isinstance(text, str):
            raise bad_request(f"meter.filters.{name}", 'expected a text, or {"eq": text}')
        texts[name] = text
    return texts


@both(get, "/features/{feature:str}", on=listing, tags=TAGS)
def get_feature(feature: FromPath[str], stores: Stores) -> Feature:
    """A feature by id or key."""
    return find_feature(stores, feature)


@v1(get, "/features", on=listing, tags=TAGS)
def list_features_v1(
    stores: Stores,
    meter_slug: Annotated[list[str] | None, QueryParameter(name="meterSlug")] = None,
    page: PageOrAll = None,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> list[Feature] | Page[Feature]:
    """List features: a page where one is asked for, else all of them."""
    wanted = listed(meter_slug)
    with stores.connection() as connection:
        chosen = [feature for feature in features(connection) if not wanted or feature.meter_slug in wanted]
    return chosen if page is None else Page.of(chosen, page, page_size)


@v3(get, "/features", on=listing, tags=TAGS)
def list_features_v3(
    stores: Stores, asked: Asked, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE
) -> NumberedPage[Feature]:
    """List features."""
    with stores.connection() as connection:
        found = features(connection)
        if "meter_id" in asked.conditions:
            ids = {meter.key: meter.id for meter in meters(connection)}
            found = [feature for feature in found if asked.hold("meter_id", ids.get(feature.meter_slug or ""))]
    return NumberedPage.of(asked.only("key", "name").chosen(found), number, size)


ROUTES = [*create_feature, *get_feature, list_features_v1, list_features_v3]
