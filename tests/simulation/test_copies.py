"""Copies of an event: what says the same is a duplicate however it is written, what says something else is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.catalog import FeatureSet, MeterSet, Record, SettlementMode
from rating.meters import Aggregation, Feature, Meter
from rating.outcome import Outcome
from rating.time_rules import TimeRules
from tests.simulation.settling import World, card, customer, plan, subscription
from tests.world import START

TIME = START.strftime("%Y-%m-%dT%H:%M:%SZ")
EVENT: dict[str, Any] = {
    "specversion": "1.0", "id": "1", "source": "gw", "type": "use", "subject": "acmé", "time": TIME,
    "data": {"n": 1, "model": "gpt-4.1 EU/é", "nested": {"a": [1, {"b": 2}]}, "other": 1},
}  # fmt: skip
MANY = {
    "one value for two": [Meter("n", "use", Aggregation.SUM, "$.n"), Meter("m", "use", Aggregation.MAX, "$.n")],
    "two values": [Meter("n", "use", Aggregation.SUM, "$.n"), Meter("m", "use", Aggregation.SUM, "$.other")],
}
METERS = {
    "a lane": [Meter("n", "use", Aggregation.SUM, "$.n")],
    "no lane": [Meter("n", "use", Aggregation.SUM, "$.n"), Meter("m", "use", Aggregation.UNIQUE_COUNT, "$.model")],
}


def world(meters: str, with_lanes: bool = True) -> World:
    found = (METERS | MANY)[meters]
    features = [Feature(meter.key, meter_key=meter.key) for meter in found]
    cards = [card(meter.key) for meter in found]
    records: list[Record] = [*map(MeterSet, found), *map(FeatureSet, features), plan(*cards)]
    who = customer(("acmé", "acme"))
    return World(
        *records, who, subscription(SettlementMode.CREDIT_THEN_INVOICE), rules=TimeRules(with_lanes=with_lanes)
    )


def written(value: Any, number: str = "1", time: str = TIME, **how: Any) -> bytes:
    text = json.dumps(value, **how)
    for before in ('"n": 1,', '"n":1,'):
        text = text.replace(before, before.replace("1,", f"{number},"))
    return text.replace(TIME, time).encode()


def turned(value: Any) -> Any:
    return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


def mismatches(of: World, first: bytes, *copies: bytes) -> int:
    """How many copies are told as saying something else. All are duplicates; an event before them opens the lane."""
    before = written(EVENT | {"id": "0"})
    out = Outcome()
    for line in (before, first, *copies):
        of.group.fold(line, START, START, out)
    assert (out.ended["rated", ""], out.ended["duplicate", ""], out.ended.total()) == (2, len(copies), 2 + len(copies))
    return len(out.mismatches)


@pytest.mark.parametrize("meters", METERS)
@pytest.mark.parametrize("number", ["1", "1.0", "1.00", "10e-1", "0.1e1", "1E0", '"1"'])
@pytest.mark.parametrize("how", [{}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"sort_keys": True}])
def test_equal_content_is_a_duplicate_however_it_is_written(meters: str, number: str, how: dict[str, Any]) -> None:
    first = written(EVENT)
    times = [TIME, TIME.replace("Z", "+00:00"), TIME.replace("Z", ".000Z"), TIME.lower()]
    copies = [written(form, number, time, **how) for time in times for form in (EVENT, turned(EVENT))]
    copies.append(written(EVENT | {"retries": 1, "data": EVENT["data"] | {"other": 2}}, number))
    for one, others in ((first, copies), (copies[-2], [first, *copies])):
        assert mismatches(world(meters), one, *others) == 0


CHANGES: list[dict[str, Any]] = [
    {"subject": "acme"},
    {"time": TIME.replace("Z", ".000001Z")},
    {"time": TIME.replace("00Z", "01Z")},
    {"time": None},
    {"data": EVENT["data"] | {"n": 2}},
    {"data": EVENT["data"] | {"n": "1.5"}},
    {"data": EVENT["data"] | {"n": True}},
    {"data": EVENT["data"] | {"n": None}},
    {"data": None},
]


@pytest.mark.parametrize("meters", METERS)
@pytest.mark.parametrize("change", CHANGES)
def test_other_content_is_told(meters: str, change: dict[str, Any]) -> None:
    other = {key: value for key, value in (EVENT | change).items() if value is not None or key == "data"}
    for first in (written(EVENT), written(EVENT, "1.0")):
        assert mismatches(world(meters), first, json.dumps(other).encode()) == 1


@pytest.mark.parametrize("meters", METERS | MANY)
@pytest.mark.parametrize("more", [1, 3, 2**16, 2**20, 2**31])
def test_another_quantity_is_told_however_many_count_it(meters: str, more: int) -> None:
    other = EVENT | {"data": EVENT["data"] | {"n": 1 + more}}
    assert mismatches(world(meters), written(EVENT), written(other)) == 1


@pytest.mark.parametrize("values", [((7, 9), (9, 7)), ((7, 7), (9, 9)), ((0, 65_536), (65_536, 0)), ((5, 3), (4, 4))])
def test_quantities_that_change_places_are_told(values: tuple[tuple[int, int], tuple[int, int]]) -> None:
    first, second = (EVENT | {"data": EVENT["data"] | {"n": n, "other": m}} for n, m in values)
    assert mismatches(world("two values"), written(first), written(second)) == 1


def test_a_copy_to_the_byte_says_the_same_whatever_the_plan_has_by_then() -> None:
    of = world("a lane")
    assert mismatches(of, written(EVENT)) == 0
    extra: list[Record] = [MeterSet(Meter("m", "use", Aggregation.COUNT)), FeatureSet(Feature("m", meter_key="m"))]
    of.apply(*extra, plan(card("n"), card("m")))
    out = Outcome()
    of.group.fold(written(EVENT), START, START, out)
    assert (out.ended, out.mismatches) == ({("duplicate", ""): 1}, [])


@given(
    st.decimals(0, 10**15, allow_nan=False, allow_infinity=False, places=6),
    st.integers(0, 8),
    st.integers(1, 10**6),
    st.booleans(),
)
def test_lanes_make_no_difference_to_what_says_the_same(
    number: Decimal, zeros: int, more: int, with_lanes: bool
) -> None:
    first = written(EVENT, f"{number:f}")
    same = written(EVENT, f"{number:f}{'0' * zeros}" if zeros else f"{number:f}", sort_keys=True)
    other = written(EVENT, f"{number + more:f}")
    assert mismatches(world("a lane", with_lanes), first, same, other) == 1
    ids = [of.group.snapshot() for of in (world("a lane"), world("a lane", False)) if not mismatches(of, first, same)]
    assert len(set(ids)) == 1


def test_a_print_does_not_depend_on_the_process() -> None:
    """Python's hash of a text does."""
    code = (
        "from datetime import datetime; from decimal import Decimal; from rating.prints import content_of; "
        "at = datetime.fromisoformat('2026-03-01T12:34:56.789+02:00'); "
        "print(content_of(at, 'use', 'acmé', [('n', Decimal('1.5')), ('m', 'text')]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
