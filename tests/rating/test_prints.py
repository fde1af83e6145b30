"""Two copies of an event say the same however they are written; what rating reads of them otherwise, it tells apart."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.events import CloudEvent, EventDecoder
from rating.prints import print_of, says_the_same

DECODER = EventDecoder(["n", "model", "nested"])
EVENT: dict[str, Any] = {
    "specversion": "1.0", "id": "1", "source": "gw", "type": "use", "subject": "acmé", "time": "2026-03-01T12:00:00Z",
    "data": {"n": 1, "model": "gpt-4.1 EU/é", "nested": {"a": [1, {"b": 2}], "c": "x"}, "other": 1},
}  # fmt: skip


def _same(first: bytes, second: bytes) -> bool:
    one, other = DECODER.decode(first), DECODER.decode(second)
    assert isinstance(one, CloudEvent)
    assert isinstance(other, CloudEvent)
    return says_the_same(print_of(one, first), other, second)


def _written(value: Any, number: str = "1", time: str = "2026-03-01T12:00:00Z", **how: Any) -> bytes:
    text = json.dumps(value, **how)
    return text.replace('"n": 1', f'"n": {number}').replace('"n":1', f'"n":{number}').replace(
        "2026-03-01T12:00:00Z", time
    ).encode()  # fmt: skip


def _turned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _turned(value[key]) for key in reversed(value)}
    return value


@pytest.mark.parametrize("number", ["1", "1.0", "1.00", "10e-1", "0.1e1", "1E0", "100E-2"])
@pytest.mark.parametrize("how", [{}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"sort_keys": True}])
@pytest.mark.parametrize(
    "time", ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00", "2026-03-01T14:00:00.0+02:00", "2026-03-01t12:00:00z"]
)
def test_equal_content_is_the_same_however_it_is_written(number: str, how: dict[str, Any], time: str) -> None:
    first = _written(EVENT)
    for second in (_written(EVENT, number, time, **how), _written(_turned(EVENT), number, time, **how)):
        assert _same(first, second)
        assert _same(second, first)


OTHER_FIELDS: list[dict[str, Any]] = [
    {"n": 2}, {"n": 10}, {"n": "1"}, {"n": True}, {"n": -1}, {"n": 1.5}, {"n": None}, {"model": "gpt-4.1"},
    {"nested": {"a": [1, {"b": 3}], "c": "x"}}, {"nested": {"a": [{"b": 2}, 1], "c": "x"}}, {"nested": []},
]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"type": "other"},
        {"subject": "acme"},
        {"time": "2026-03-01T12:00:00.000001Z"},
        {"time": None},
        {"data": None},
        *({"data": EVENT["data"] | fields} for fields in OTHER_FIELDS),
    ],
)  # fmt: skip
def test_other_content_is_told(change: dict[str, Any]) -> None:
    other = {key: value for key, value in (EVENT | change).items() if value is not None or key == "data"}
    for number in ("1", "1.0"):
        assert not _same(_written(EVENT, number), json.dumps(other).encode())


def test_what_no_meter_reads_makes_no_difference_and_a_copy_to_the_byte_never_does() -> None:
    first = _written(EVENT)
    assert _same(first, _written(EVENT | {"retries": 1, "data": EVENT["data"] | {"other": 2}}))
    less = EventDecoder(["model"]).decode(first)
    now = DECODER.decode(first)
    assert isinstance(less, CloudEvent)
    assert isinstance(now, CloudEvent)
    assert says_the_same(print_of(less, first), now, first)


def test_no_data_and_none_that_a_meter_reads_are_the_same() -> None:
    found = [_written(EVENT | {"data": data}) for data in (None, {}, {"other": 1.5})]
    found.append(_written({name: value for name, value in EVENT.items() if name != "data"}))
    assert all(_same(first, second) for first in found for second in found)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 5), st.randoms(use_true_random=False))
def test_any_number_is_the_same_with_zeros(number: Decimal, zeros: int, chance: Random) -> None:
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    sign = "-" if number.is_signed() else ""
    plain, longer = f"{int(''.join(map(str, digits)))}", "0" * zeros
    first = _written(EVENT, f"{sign}{plain}e{exponent}")
    assert _same(first, _written(EVENT, f"{sign}{plain}{longer}e{exponent - zeros}"))
    other = _written(EVENT, f"{sign}{int(plain) + chance.randrange(1, 10**6)}e{exponent}")
    assert not _same(first, other)


@pytest.mark.parametrize("number", ["9" * 30, "9" * 4500, "1e999999", "-0", "0.0", "0e5", "1" + "0" * 5000 + ".0"])
def test_no_number_raises(number: str) -> None:
    text = _written(EVENT, number)
    event = DECODER.decode(text)
    if isinstance(event, CloudEvent):
        assert says_the_same(print_of(event, text), event, text)
