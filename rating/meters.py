"""
Meters and features: which events count, what is read from them, and how it adds up.

A meter reads a quantity, in a unit of its own, from the events of one type; a feature is the part of its
usage that is priced. What an aggregation remembers of the events is in `rating.tallies`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from msgspec import UNSET, Struct

from rating.events import attribute_of
from rating.money import DIGITS_MAX, ONE, ZERO, is_within_bounds, parse_decimal, plain
from rating.refusal import Refusal
from rating.refusals import RejectCode

MISSING: Final = UNSET
"""What a path reads where the event has nothing. JSON's null is `None`, not this."""

_INTEGER_LIMIT: Final = 10**DIGITS_MAX
_SLUG: Final = re.compile(r"(?=.{1,64}$)[a-z0-9]+(?:_[a-z0-9]+)*")
_DIMENSION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NUMERIC: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SEGMENT: Final = re.compile(
    r"\.(?P<name>[^\W\d][\w-]*)|\[(?P<index>[0-9]{1,6})\]"
    r"""|\['(?P<single>[^'"\\\x00-\x1f\ud800-\udfff]*)'\]|\["(?P<double>[^"\\\x00-\x1f\ud800-\udfff]*)"\]"""
)


class MeterError(Refusal, ValueError):
    """A meter or a feature that cannot be used as written."""


class Aggregation(StrEnum):
    """How the values of a meter's events come to one."""

    SUM = "SUM"
    COUNT = "COUNT"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"
    LATEST = "LATEST"
    """The value of the event with the latest time; at the same time, with the largest id."""
    UNIQUE_COUNT = "UNIQUE_COUNT"
    """How many different texts the value has."""


_COUNT: Final = Aggregation.COUNT
_UNIQUE_COUNT: Final = Aggregation.UNIQUE_COUNT


class Meter(Struct, frozen=True):
    """What is read from the events of one type. Paths are relative to an event's `data`, which is `$`."""

    key: str
    event_type: str
    aggregation: Aggregation
    value_property: str | None = None
    """Where the value is; None for COUNT, which needs none."""
    group_by: dict[str, str] = {}
    """Dimension to path: what a feature may filter by."""
    name: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        _check_slug(self.key, "key")
        if not self.event_type:
            raise _unexpected("event_type", "the `type` of the events to meter", "an empty string", "name one type")
        if self.aggregation is Aggregation.COUNT:
            if self.value_property is not None:
                hint = "remove it, or choose SUM to add the values up"
                raise _unexpected("value_property", "nothing, since COUNT counts events", "a path", hint)
        elif self.value_property is None:
            hint = "add the path of the value in `data`, as in $.tokens"
            raise _unexpected("value_property", f"a path, since {self.aggregation} needs a value", "nothing", hint)
        else:
            _segments(self.value_property, "value_property")
        for dimension, path in self.group_by.items():
            field = f"group_by.{dimension[:64]}"
            if not _DIMENSION.fullmatch(dimension):
                hint = "name it with letters, digits and underscores, at most 64"
                raise _unexpected(field, "a dimension's name", "other characters", hint)
            _segments(path, field)


class Feature(Struct, frozen=True):
    """What is sold: all usage of a meter, or the part whose dimensions have one of the allowed texts."""

    key: str
    name: str = ""
    meter_key: str | None = None
    """None: nothing is metered, as for a flag or a flat fee."""
    filters: dict[str, tuple[str, ...]] = {}
    """Dimension of the meter to allowed texts; all have to match."""
    others: bool = False
    """Whether it takes, of the usage that its filters let pass, only what no other feature of the plan takes."""

    def __post_init__(self) -> None:
        _check_slug(self.key, "key")
        if self.filters and self.meter_key is None:
            raise _unexpected("filters", "none without a meter", "some", "name the meter, or remove the filters")
        if self.others and self.meter_key is None:
            raise _unexpected("others", "nothing without a meter", "true", "name the meter, or remove it")
        for dimension, allowed in self.filters.items():
            if not allowed:
                hint = "list the texts to allow, or remove the filter"
                raise _unexpected(f"filters.{dimension}", "at least one text", "an empty list", hint)


def read_filters(filters: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """A feature's filters from how they may be written: for each dimension one text, or a list of them."""
    return {name: (texts,) if isinstance(texts, str) else tuple(texts) for name, texts in filters.items()}


def check_filters(feature: Feature, meter: Meter) -> None:
    """Raises `MeterError` if a feature filters by a dimension that its meter does not have."""
    for dimension in feature.filters:
        if dimension not in meter.group_by:
            hint = f"add it to the `group_by` of meter `{meter.key}`, or remove the filter"
            known = ", ".join(meter.group_by) or "none"
            raise _unexpected(f"filters.{dimension}", f"a dimension of the meter ({known})", "another", hint)


def matches(feature: Feature, dimensions: Mapping[str, str | None]) -> bool:
    """Whether usage with these dimensions counts towards a feature."""
    return all(dimensions.get(name) in allowed for name, allowed in feature.filters.items())


PLAIN_INTEGER_LIMIT = 10**18
"""Integers from 0 to below this are taken as they are; all other values are looked at closely."""


@lru_cache(maxsize=4096)
def compile_path(path: str) -> Callable[[Any], Any]:
    """
    Make a path such as `$.usage['total tokens'][0]` a function from decoded `data` to a value or `MISSING`.

    The data has to come from an `EventDecoder` that knows `top_field(path)`.
    """
    first, *steps = _segments(path, "path")
    attribute = attribute_of(str(first))

    def read(data: Any) -> Any:
        return getattr(data, attribute, MISSING)

    def read_nested(data: Any) -> Any:
        value = getattr(data, attribute, MISSING)
        for step in steps:
            if isinstance(step, str):
                value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
            else:
                value = value[step] if isinstance(value, list) and step < len(value) else MISSING
        return value

    return read_nested if steps else read


def top_field(path: str) -> str:
    """The field of `data` that a path starts with: what an `EventDecoder` has to know."""
    return str(_segments(path, "path")[0])


def path_steps(path: str) -> int:
    """How many fields and places of arrays a path goes through."""
    return len(_segments(path, "path"))


def quantity(value: object, aggregation: Aggregation = Aggregation.SUM) -> Decimal | str | RejectCode:
    """
    What one event adds to a meter.

    Args:
        value: What the meter's path read: a JSON number, a string that holds one, or anything else.
        aggregation: The meter's.

    Returns:
        A number, 0 or more; for UNIQUE_COUNT a text; or why there is none.
    """
    if aggregation is _COUNT:
        return ONE
    if value is MISSING:
        return RejectCode.VALUE_MISSING
    if aggregation is _UNIQUE_COUNT:
        text = dimension_text(value)
        return RejectCode.VALUE_NOT_A_TEXT if text is None else text
    if type(value) is int:
        if not -_INTEGER_LIMIT < value < _INTEGER_LIMIT:
            return RejectCode.VALUE_OUT_OF_RANGE
        number = Decimal(value)
    elif isinstance(value, Decimal):
        if not is_within_bounds(value):
            return RejectCode.VALUE_OUT_OF_RANGE
        number = value
    elif isinstance(value, str):
        try:
            number = parse_decimal(value)
        except ValueError:
            numeric = _NUMERIC.fullmatch(value)
            return RejectCode.VALUE_OUT_OF_RANGE if numeric else RejectCode.VALUE_NOT_A_NUMBER
    else:
        return RejectCode.VALUE_NOT_A_NUMBER
    if number < 0:
        return RejectCode.VALUE_NEGATIVE
    return number or ZERO


def dimension_text(value: object) -> str | None:
    """
    A value as text: a string as it is, a number or boolean as JSON has it, so that 1 and 1.0 are the same.

    None where there is no text: nothing, null, an array, an object, or a number beyond `DIGITS_MAX`.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -_INTEGER_LIMIT < value < _INTEGER_LIMIT else None
    if isinstance(value, Decimal):
        return plain(value) if is_within_bounds(value) else None
    return None


def _segments(path: str, field: str) -> tuple[str | int, ...]:
    """The steps of a path: names and indexes. Raises `MeterError` where it is none."""
    steps: list[str | int] = []
    place = 1
    while path[:1] == "$" and (found := _SEGMENT.match(path, place)):
        steps.append(int(found["index"]) if found["index"] else found[found.lastgroup or 0])
        place = found.end()
    if place != len(path) or not steps or isinstance(steps[0], int):
        hint = "write it as in $.tokens, $.usage.total or $['total tokens'][0]; there are no wildcards"
        raise _unexpected(field, "a path that starts with `$` and a field of `data`", f"`{path[:80]}`", hint)
    return tuple(steps)


def _check_slug(text: str, field: str) -> None:
    if not _SLUG.fullmatch(text):
        hint = "write 1 to 64 lower-case letters and digits, with single underscores between, as in llm_tokens"
        raise _unexpected(field, "a key", f"`{text[:64]}`", hint)


def _unexpected(path: str, expected: str, got: str, hint: str) -> MeterError:
    return MeterError(f"expected {expected}, got {got}", path, hint)
