"""
What two copies of an event are compared by, once the second is known to be a repetition: a print of 32 bits.

Half of it is of the event's bytes, half of what rating reads of it: its attributes, and the fields of `data` that some
meter looks at. One half that agrees is enough. So a copy that a sender writes otherwise (its keys in another order,
white space, `1.0` for `1`, `+00:00` for `Z`, escapes) says the same, and a copy to the byte does so whatever meters
there are by then. What comes of it is told and changes no money, so that one copy in some ten thousand that says
something else may go unnoticed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from xxhash import xxh32_intdigest as _digest

from rating.events import CloudEvent
from rating.money import DIGITS_MAX

_UPPER_HALF: Final = 0xFFFF_0000
_LOWER_HALF: Final = 0xFFFF
DIGITS_SHOWN_MAX: Final = 3 * DIGITS_MAX
_DATA: Final = b'"data":'
_NOTHING: Final = b'"data":{}}'
_NONE: Final = b'"data":null}'

_encode = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


def print_of(event: CloudEvent, line: bytes) -> int:
    """The print of an event with these bytes."""
    text = _encode(event)
    at = text.find(_DATA)
    if text.find(b".", at) >= 0 or text.find(b"E", at) >= 0:
        text = _written_in_one_way(event, text)
    elif text.endswith(_NOTHING):
        # As good as none.
        text = text.removesuffix(_NOTHING) + _NONE
    return (_digest(line) & _UPPER_HALF) | (_digest(text) & _LOWER_HALF)


def says_the_same(known: int, event: CloudEvent, line: bytes) -> bool:
    """Whether a copy says what an event with this print said. Prints of old were of all bytes, and begin the same."""
    differs = known ^ print_of(event, line)
    return not differs & _UPPER_HALF or not differs & _LOWER_HALF


def _written_in_one_way(event: CloudEvent, text: bytes) -> bytes:
    """The text of an event that may hold numbers that can be written in several ways."""
    data = event.data
    if data is None:
        return text
    fields = {name: _plain(getattr(data, name)) for name in data.__struct_fields__}
    return _encode(replace(event, data=replace(data, **fields)))


def _plain(value: Any) -> Any:
    """A value with all numbers written in one way."""
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def _number(number: Decimal) -> Decimal | int:
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "JSON has no infinity"
    if len(digits) > DIGITS_SHOWN_MAX or abs(exponent) > DIGITS_SHOWN_MAX:
        # No meter counts that: it is compared as it was written.
        return number
    while digits[-1] == 0 and exponent < 0:
        digits, exponent = digits[:-1], exponent + 1
        if not digits:
            return 0
    found = Decimal((sign, digits, exponent))
    return int(found) if exponent >= 0 else found
