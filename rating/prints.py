"""
What two copies of an event are compared by, once the second is known to be a repetition: a print of 32 bits.

Half of it is of the event's bytes, half of its content: what it adds, to what, and when. One half that agrees is
enough. So a copy that a sender writes otherwise (its keys in another order, white space, `1.0` for `1`, `+00:00` for
`Z`, escapes) says the same, and so does a copy to the byte whatever the catalog says by then. What comes of it is told
and changes no money, so that one copy in some ten thousand that says something else may go unnoticed.

What waits adds nothing yet, and what meters there will be to look at it is not known: its content is all that it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import msgspec
from xxhash import xxh32_intdigest

HALF_BITS: Final = 16
HALF: Final = 0xFFFF
"""The lower half is of the bytes, as it was when all of a print was; the upper one is of the content."""
CONTENT_BYTES: Final = 16
SPREAD: Final = 9973
"""A prime: it takes different small quantities, and different seconds of a day, to different prints."""
PRIME: Final = 65_521
"""The largest of 16 bits. Quantities go into a print modulo it: those that differ by less than it never look alike."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def digest_of(text: str) -> int:
    """A text as a number of 16 bits."""
    return HALF & xxh32_intdigest(text.encode("utf-8", "surrogatepass"))


def number_of(value: Decimal) -> int:
    """A number as an integer, the same however it is written: itself, or what Python's hash makes of a fraction."""
    whole = int(value)
    if whole == value:
        return whole
    # A half or a quarter differs from its integer in the upper bits alone.
    found = hash(value)
    return found ^ found >> 16 ^ found >> 32 ^ found >> 48


def factor_of(event_type: str, subject: str, card_key: str) -> int:
    """
    What a quantity is multiplied by in a print, for where it goes.

    Each card has a factor of its own, so that quantities that change places, or are the same, don't cancel out.
    """
    return 1 + xxh32_intdigest(f"{event_type}\0{subject}\0{card_key}".encode("utf-8", "surrogatepass")) % (PRIME - 1)


def content_of(
    time: datetime | None, event_type: str, subject: str, counted: Iterable[tuple[str, Decimal | str]]
) -> int:
    """
    The half of a print that is of an event's content.

    Args:
        time: Its own; None where it has none.
        event_type: Its type.
        subject: Its subject.
        counted: What it adds to each rate card, by its key.
    """
    found = terms = 0
    if time is not None:
        since = time - EPOCH
        found = since.seconds * SPREAD + since.days ^ since.microseconds
    for card_key, value in counted:
        number = digest_of(value) if isinstance(value, str) else number_of(value)
        terms += (2 * number + 1) * factor_of(event_type, subject, card_key)
    return (terms % PRIME ^ found) & HALF


def content_of_all(time: datetime | None, line: bytes) -> bytes:
    """
    The digest of all that an event says: the same for copies whose JSON is written otherwise.

    Args:
        time: Its own; None where it has none.
        line: Its bytes.
    """
    try:
        body = _decode(line)
        if isinstance(body, dict) and time is not None:
            body["time"] = time.isoformat()
        said = repr(_comparable(body)).encode("utf-8", "surrogatepass")
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError):
        # What only this reader can't take is compared by its bytes.
        said = line
    return sha256(said).digest()[:CONTENT_BYTES]


_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def _comparable(value: Any) -> object:
    """A value of JSON in the one form that all spellings of it have in common."""
    match value:
        case dict():
            return "{}", sorted((key, _comparable(member)) for key, member in value.items())
        case list():
            return "[]", [_comparable(member) for member in value]
        case Decimal() if value.is_finite():
            return _number(value)
        case bool() | None | str():
            return value
        case int():
            return _number(Decimal(value))
    return str(value)


def _number(value: Decimal) -> tuple[str, int, str, int]:
    """A number without its trailing zeros, whatever its exponent: nothing is calculated."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    return ("#", sign, stripped, exponent + len(text) - len(stripped)) if stripped else ("#", 0, "", 0)
