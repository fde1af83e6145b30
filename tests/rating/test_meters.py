"""Meters, features and tallies: what is read from an event, what it counts towards, and how it adds up."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.events import CloudEvent, EventDecoder
from rating.meters import (
    MISSING,
    Aggregation,
    Feature,
    Meter,
    MeterError,
    check_filters,
    compile_path,
    dimension_text,
    matches,
    quantity,
    read_filters,
    top_field,
)
from rating.money import DIGITS_MAX, use_exact
from rating.refusals import RejectCode
from rating.tallies import Tally, add, new_tally, tally_value

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "peers.json").read_text())["vectors"]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

Usage = tuple[Any, datetime, str]

texts = st.sampled_from(["a", "b", "1", "é"])
numbers = st.decimals(0, 1000, places=3)
times = st.integers(0, 3).map(lambda minutes: NOON + timedelta(minutes=minutes))
usages = st.lists(st.tuples(numbers, times, texts), max_size=6)
each_aggregation = pytest.mark.parametrize("aggregation", Aggregation)


def tallied(aggregation: Aggregation, usage: list[Usage]) -> Tally:
    use_exact()
    tally = new_tally(aggregation)
    for value, time, event_id in usage:
        number = quantity(value, aggregation)
        assert not isinstance(number, RejectCode)
        add(tally, number, time, event_id)
    return tally


def total(aggregation: Aggregation, *values: Any) -> Decimal:
    return tally_value(tallied(aggregation, [(value, NOON, "1") for value in values]))


def read(path: str, data: Any) -> Any:
    """What a path reads from the JSON of an event's data."""
    envelope = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "u", "data": data}
    event = EventDecoder([top_field(path)]).decode(json.dumps(envelope).encode())
    assert isinstance(event, CloudEvent), event
    return compile_path(path)(event.data)


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v["model"] == "aggregate"], ids=lambda v: f"{v['system']} {v['name']}"
)
def test_aggregations_come_to_what_others_say(vector: dict[str, Any]) -> None:
    """Worked examples from the documents of other systems."""
    field = vector["params"]["field"]
    values = [item[field] if isinstance(item, dict) else item for item in vector["usage"]]
    assert total(Aggregation(vector["params"]["function"].upper()), *values) == Decimal(vector["expected_total"])


@pytest.mark.parametrize(
    ("aggregation", "values", "expected"),
    [
        (Aggregation.SUM, ["0.1", "0.2"], "0.3"),
        (Aggregation.SUM, [2**53, 1], str(2**53 + 1)),
        (Aggregation.COUNT, [None, "x", -1], "3"),
        (Aggregation.AVG, [1, 1, 0], "0.666666666666666667"),
        (Aggregation.AVG, [Decimal("1e-18"), 0], "1e-18"),
        (Aggregation.MIN, [3, "2.5", 4], "2.5"),
        (Aggregation.MAX, [3, "2.5", 4], "4"),
        (Aggregation.MAX, [4, "2.5", 3], "4"),
        (Aggregation.MIN, ["2.5", 4, 3], "2.5"),
        (Aggregation.UNIQUE_COUNT, ["1", 1, Decimal("1.0"), True, "true", "x", ""], "4"),
    ],
)
def test_values_add_up(aggregation: Aggregation, values: list[Any], expected: str) -> None:
    """Exactly, except that an average keeps 18 digits after the point, rounded half up."""
    assert total(aggregation, *values) == Decimal(expected)


@each_aggregation
def test_nothing_comes_to_zero(aggregation: Aggregation) -> None:
    """A period without usage has a value under every aggregation."""
    assert total(aggregation) == 0


def test_the_latest_is_by_event_time_then_id() -> None:
    """Arrival does not matter; at the same time the larger id wins, and then the larger value."""
    usage: list[Usage] = [
        (7, NOON, "2"),
        (9, NOON, "1"),
        (5, NOON - timedelta(microseconds=1), "9"),
        (6, NOON, "2"),
    ]
    assert tally_value(tallied(Aggregation.LATEST, usage)) == 7


@each_aggregation
@given(usage=usages.flatmap(lambda usage: st.tuples(st.just(usage), st.permutations(usage))))
def test_the_order_of_events_does_not_matter(aggregation: Aggregation, usage: tuple[list[Usage], list[Usage]]) -> None:
    """Any permutation comes to the same value."""
    as_sent, shuffled = usage
    assert tally_value(tallied(aggregation, as_sent)) == tally_value(tallied(aggregation, shuffled))


@each_aggregation
@given(before=usages, after=usages)
def test_a_tally_survives_a_snapshot(aggregation: Aggregation, before: list[Usage], after: list[Usage]) -> None:
    """Packed half-way and unpacked, it goes on as if nothing had happened."""
    packed = msgspec.msgpack.encode(tallied(aggregation, before))
    resumed: Tally = msgspec.msgpack.decode(packed, type=Tally)
    for value, time, event_id in after:
        number = quantity(value, aggregation)
        assert not isinstance(number, RejectCode)
        add(resumed, number, time, event_id)
    assert tally_value(resumed) == tally_value(tallied(aggregation, before + after))
    inside = msgspec.msgpack.decode(msgspec.msgpack.encode([resumed]), type=list[Tally | None])
    assert inside == [resumed]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, Decimal(5)),
        (0, Decimal(0)),
        (Decimal("-0.0"), Decimal(0)),
        (Decimal("1.5e3"), Decimal(1500)),
        ("12", Decimal(12)),
        ("0.05", Decimal("0.05")),
        ("1e3", Decimal(1000)),
        (10**DIGITS_MAX - 1, Decimal(10**DIGITS_MAX - 1)),
        (MISSING, RejectCode.VALUE_MISSING),
        (None, RejectCode.VALUE_NOT_A_NUMBER),
        (True, RejectCode.VALUE_NOT_A_NUMBER),
        ([1], RejectCode.VALUE_NOT_A_NUMBER),
        ({}, RejectCode.VALUE_NOT_A_NUMBER),
        ("", RejectCode.VALUE_NOT_A_NUMBER),
        (" 1", RejectCode.VALUE_NOT_A_NUMBER),
        ("1_000", RejectCode.VALUE_NOT_A_NUMBER),
        ("NaN", RejectCode.VALUE_NOT_A_NUMBER),
        ("1\n", RejectCode.VALUE_NOT_A_NUMBER),
        ("٣", RejectCode.VALUE_NOT_A_NUMBER),
        (10**DIGITS_MAX, RejectCode.VALUE_OUT_OF_RANGE),
        (-(10**4000), RejectCode.VALUE_OUT_OF_RANGE),
        (Decimal("1e999999"), RejectCode.VALUE_OUT_OF_RANGE),
        (Decimal("1e-999999"), RejectCode.VALUE_OUT_OF_RANGE),
        ("1e99999999999", RejectCode.VALUE_OUT_OF_RANGE),
        ("9" * 5000, RejectCode.VALUE_OUT_OF_RANGE),
        (-1, RejectCode.VALUE_NEGATIVE),
        ("-0.1", RejectCode.VALUE_NEGATIVE),
    ],
)
def test_a_quantity_is_a_number_of_zero_or_more(value: Any, expected: Decimal | RejectCode) -> None:
    """Numbers and strings that hold one are taken, exactly; anything else has its reason."""
    use_exact()
    found = quantity(value)
    assert (found, type(found)) == (expected, type(expected))
    assert not isinstance(found, Decimal) or not found.is_signed()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("GPT-4", "GPT-4"),
        ("", ""),
        (1, "1"),
        (Decimal("1.0"), "1"),
        (Decimal("1e2"), "100"),
        (Decimal("-0.50"), "-0.5"),
        (True, "true"),
        (None, None),
        (MISSING, None),
        ([], None),
        ({}, None),
        (Decimal("1e999999"), None),
        (10**4000, None),
    ],
)
def test_a_dimension_is_the_text_of_a_value(value: Any, expected: str | None) -> None:
    """Strings as they are, numbers and booleans as JSON writes them, the same for equal numbers."""
    assert dimension_text(value) == expected


@pytest.mark.parametrize("value", [None, [1], {}, 10**4000])
def test_only_texts_are_counted_once(value: Any) -> None:
    """What has no text is rejected, and what is missing is missing."""
    assert quantity(value, Aggregation.UNIQUE_COUNT) is RejectCode.VALUE_NOT_A_TEXT
    assert quantity(MISSING, Aggregation.UNIQUE_COUNT) is RejectCode.VALUE_MISSING


DATA = {"tokens": 5, "a": {"b": {"x y": [7, {"it's": 8}]}, "n": None}, "größe": 9, "a-b": 1, "0": 2}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.tokens", 5),
        ("$['tokens']", 5),
        ('$["größe"]', 9),
        ("$.größe", 9),
        ("$.a-b", 1),
        ("$['0']", 2),
        ("$.a.b['x y'][0]", 7),
        ("""$.a.b["x y"][1]["it's"]""", 8),
        ("$.a.n", None),
        ("$.a.n.x", MISSING),
        ("$.a.b['x y'][2]", MISSING),
        ("$.a[0]", MISSING),
        ("$.tokens.x", MISSING),
        ("$.other", MISSING),
        ("$.other.x[0]", MISSING),
    ],
)
def test_a_path_reads_a_value(path: str, value: Any) -> None:
    """Names, quoted names and indexes lead to a value; anything else leads to nothing."""
    assert read(path, DATA) == value
    assert read(path, None) is MISSING


@pytest.mark.parametrize(
    "path",
    [
        *("", "$", "$.", "tokens", ".tokens", "$[0]", "$.a.", "$..a", "$.*", "$.a[*]", "$.a[-1]", "$.a[1:2]"),
        *("$.a[?(@)]", "$['a\\'b']", "$['a\"b']", "$['a]", "$.a b", "$.a\n", "$.a[9999999]"),
        *("$['\ud800']", "$['\x00']"),
    ],
)
def test_a_bad_path_says_how_to_write_one(path: str) -> None:
    """What is no path to one value is refused when the meter is made."""
    with pytest.raises(MeterError, match=r"^`value_property`: expected .*(?s:.)*\nhint: .*\$\.tokens") as caught:
        Meter("m", "t", Aggregation.SUM, path)
    assert caught.value.path == "value_property"


@given(st.text(alphabet="$.a1['] \"\\*é\n", max_size=12))
def test_a_path_is_refused_or_works(path: str) -> None:
    """Any text either raises the one error or compiles and reads from the data of a decoder that knows it."""
    try:
        field = top_field(path)
    except MeterError:
        return
    assert read(path, {field: 1}) in (1, MISSING)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"key": "Bad Key"}, "key"),
        ({"key": ""}, "key"),
        ({"key": "k" * 65}, "key"),
        ({"key": "k\n"}, "key"),
        ({"event_type": ""}, "event_type"),
        ({"value_property": None}, "value_property"),
        ({"aggregation": Aggregation.COUNT}, "value_property"),
        ({"group_by": {"model": "model"}}, "group_by.model"),
        ({"group_by": {"the model": "$.model"}}, "group_by.the model"),
    ],
)
def test_a_bad_meter_names_the_field_and_the_fix(fields: dict[str, Any], path: str) -> None:
    """There is no meter that cannot be read from, whether made or decoded."""
    good = {"key": "m", "event_type": "t", "aggregation": Aggregation.SUM, "value_property": "$.v"}
    with pytest.raises(MeterError) as caught:
        Meter(**(good | fields))
    assert caught.value.path == path
    assert "expected" in caught.value.message
    assert caught.value.hint
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(good | fields, Meter)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"key": "a__b"}, "key"),
        ({"filters": {"model": ()}}, "filters.model"),
        ({"meter_key": None, "filters": {"model": ("a",)}}, "filters"),
    ],
)
def test_a_bad_feature_names_the_field_and_the_fix(fields: dict[str, Any], path: str) -> None:
    """Filters need a meter to filter, and something to let through."""
    with pytest.raises(MeterError) as caught:
        Feature(**({"key": "f", "meter_key": "m"} | fields))
    assert caught.value.path == path


def test_a_filter_is_on_a_dimension_of_the_meter() -> None:
    """A misspelt dimension would match nothing for ever."""
    meter = Meter("m", "t", Aggregation.COUNT, group_by={"model": "$.model"})
    check_filters(Feature("f", meter_key="m", filters={"model": ("a",)}), meter)
    with pytest.raises(MeterError, match="group_by") as caught:
        check_filters(Feature("f", meter_key="m", filters={"modle": ("a",)}), meter)
    assert caught.value.path == "filters.modle"


@pytest.mark.parametrize(
    ("filters", "dimensions", "found"),
    [
        ({}, {}, True),
        ({"model": "a"}, {"model": "a", "kind": "x"}, True),
        ({"model": "abc"}, {"model": "a"}, False),
        ({"model": ["a", "b"]}, {"model": "b"}, True),
        ({"model": "a"}, {"model": None}, False),
        ({"model": "a"}, {}, False),
        ({"model": "a", "kind": "x"}, {"model": "a", "kind": "y"}, False),
    ],
)
def test_a_feature_takes_what_all_its_filters_allow(
    filters: dict[str, Any], dimensions: dict[str, str | None], found: bool
) -> None:
    """A filter is one text or a list of them; without filters all usage of the meter counts."""
    assert matches(Feature("f", meter_key="m", filters=read_filters(filters)), dimensions) is found


def test_meters_and_features_survive_a_round_trip() -> None:
    """They are kept as JSON in the control log."""
    meter = Meter("m", "t", Aggregation.LATEST, "$.a['b']", {"model": "$.model"}, "Name", "About")
    feature = Feature("f", "Name", "m", {"model": ("a", "b")})
    for value in (meter, feature):
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
