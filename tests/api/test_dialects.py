"""One struct, two dialects: what v1 reads and writes is derived from what v3 does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from tollway.api.server.app import create_app
from tollway.api.server.docs import document
from tollway.api.server.stores import ServerStores
from tollway.openmeter.codec import shown, taken, wire
from tollway.openmeter.dialect import V1, V3
from tollway.openmeter.features import Feature, FeatureCreate
from tollway.openmeter.meters import Meter, MeterCreate
from tollway.openmeter.shapes import Body, NumberedPage, Page, View


class Inner(View, frozen=True):
    """Something inside of something else."""

    unit_price: str
    labels: dict[str, str] | None = None


class Outer(View, frozen=True):
    """Something with something inside, in all the ways in which it may be."""

    one: Inner
    some_list: list[Inner]
    by_name: dict[str, Inner]
    null_is_said: str | None
    maybe: Inner | None = None


class Asked(Body):
    """A body with a body inside."""

    first_part: FeatureCreate


def encoded(view: Any, kind: Any, dialect: Any) -> Any:
    """What a client of a dialect reads."""
    return msgspec.json.decode(msgspec.json.encode(shown(view, kind, dialect)))


def test_names_are_changed_all_the_way_down_but_not_those_of_users() -> None:
    """Structs in lists, mappings, options and pages; the keys of a mapping are somebody's own."""
    inner = Inner(unit_price="1", labels={"some_key": "v"})
    outer = Outer(one=inner, some_list=[inner], by_name={"a_name": inner}, maybe=inner, null_is_said=None)
    camel = {"unitPrice": "1", "metadata": {"some_key": "v"}}
    wanted = {"one": camel, "someList": [camel], "byName": {"a_name": camel}, "maybe": camel, "nullIsSaid": None}
    assert encoded(outer, Outer, V1) == wanted
    page = encoded(Page.of([outer], 1, 10), Page[Outer], V1)
    assert page == {"totalCount": 1, "page": 1, "pageSize": 10, "items": [wanted]}


def test_v3_writes_the_structs_as_they_are() -> None:
    """Nothing is derived where nothing differs, also within a page."""
    assert wire(NumberedPage[Outer], V3) == NumberedPage[Outer]
    assert wire(Meter, V3) is Meter
    inner = Inner(unit_price="1")
    assert encoded(inner, Inner, V3) == {"unit_price": "1"}


def test_a_field_that_v1_names_like_another_is_the_same_to_it() -> None:
    """v3 takes and shows a key, dimensions and labels under v1's names too; v1 has each of them once."""
    names = [field.encode_name for field in msgspec.structs.fields(wire(MeterCreate, V1))]
    assert sorted(names) == sorted(
        ["slug", "groupBy", "metadata", "eventType", "aggregation", "name", "description", "valueProperty"]
    )
    sent = msgspec.json.decode(
        b'{"slug": "a", "eventType": "e", "aggregation": "SUM", "groupBy": {"Some_Key": "$.a"}, "nobody": 1}',
        type=wire(MeterCreate, V1),
    )
    body = taken(sent, MeterCreate)
    assert (body.key, body.slug, body.aggregation, body.dimensions) == ("a", None, "SUM", {"Some_Key": "$.a"})


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b'{"eventType": "e", "aggregation": "SUM"}', "missing required field `slug`"),
        (b'{"slug": "a", "eventType": 1, "aggregation": "SUM"}', "`$.eventType`"),
        (b'{"slug": "a", "eventType": "e", "aggregation": "sum"}', "`$.aggregation`"),
        (b'{"slug": "a", "eventType": "e", "aggregation": "SUM", "groupBy": {"a": 1}}', "`$.groupBy[...]`"),
    ],
)
def test_what_is_wrong_is_said_in_the_names_that_were_sent(sent: bytes, said: str) -> None:
    """The derived struct is what is decoded, so that no message names a field that the client does not know."""
    with pytest.raises(msgspec.ValidationError) as failure:
        msgspec.json.decode(sent, type=wire(MeterCreate, V1))
    assert said in str(failure.value)


def test_v3_refuses_a_field_that_nobody_knows_and_v1_passes_over_it() -> None:
    """As OpenMeter does."""
    sent = b'{"firstPart": {"key": "a", "name": "A", "nobody": 1}, "nobody": 1}'
    assert taken(msgspec.json.decode(sent, type=wire(Asked, V1)), Asked).first_part.key == "a"
    with pytest.raises(msgspec.ValidationError, match="unknown field `nobody`"):
        msgspec.json.decode(b'{"key": "a", "name": "A", "nobody": 1}', type=wire(FeatureCreate, V3))


def test_a_dialect_is_without_the_fields_that_only_the_other_has() -> None:
    """v1 has a feature's further filters beside the others, v3 in the reference to the meter."""
    v1, v3 = ({field.name for field in msgspec.structs.fields(wire(Feature, dialect))} for dialect in (V1, V3))
    assert v1 - v3 == {"advanced_meter_group_by_filters"}
    assert v3 - v1 == {"meter"}


def below(kind: type[Struct]) -> Iterator[type[Struct]]:
    """All structs that are made of one."""
    for inner in kind.__subclasses__():
        yield inner
        yield from below(inner)


def test_every_exception_is_of_a_field_that_is_there() -> None:
    """A field that is renamed or moved leaves none behind."""
    known = {
        f"{kind.__name__}.{field.name}"
        for kind in (*below(Body), *below(View))
        for field in msgspec.structs.fields(kind)
    }
    named = {name for dialect in (V1, V3) for name in (*dialect.names, *dialect.types, *dialect.without) if "." in name}
    assert named - known == set()


def test_the_description_has_a_plain_name_for_each_type() -> None:
    """Two types with one name would be called by the modules that they are in."""
    app = create_app(ServerStores("redis://127.0.0.1:1", "postgresql://127.0.0.1:1/none", partitions=2))
    schemas = document(app, app.openapi_schema.to_schema())["components"]["schemas"]
    assert [name for name in schemas if not name.isidentifier()] == []
    assert {"Meter", "MeterV1", "MeterCreate", "MeterCreateV1"} <= schemas.keys()
