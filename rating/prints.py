"""
What two copies of an event are compared by, once the second is known to be a repetition: a print of 32 bits.

Half of it is of the event's bytes, half of its content: what it adds, to what, and when. One half that agrees is
enough. So a copy that a sender writes otherwise (its keys in another order, white space, `1.0` for `1`, `+00:00` for
`Z`, escapes) says the same, and so does a copy to the byte whatever the catalog says by then. What comes of it is told
and changes no money, so that one copy in some ten thousand that says something else may go unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from xxhash import xxh32_intdigest

HALF_BITS: Final = 16
HALF: Final = 0xFFFF
"""The lower half is of the bytes, as it was when all of a print was; the upper one is of the content."""
SPREAD: Final = 9973
"""A prime: it takes different small quantities, and different seconds of a day, to different prints."""
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


def salt_of(event_type: str, subject: str, card_key: str) -> int:
    """What stands in a print for where the quantity goes."""
    return digest_of(f"{event_type}\0{subject}\0{card_key}")


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
    found = 0
    if time is not None:
        since = time - EPOCH
        found = since.seconds * SPREAD + since.days ^ since.microseconds
    for card_key, value in counted:
        number = digest_of(value) if isinstance(value, str) else number_of(value)
        found ^= number * SPREAD ^ salt_of(event_type, subject, card_key)
    return found & HALF
