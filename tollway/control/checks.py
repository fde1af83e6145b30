"""
Checks of single fields: each is a text, an instant or a list, and the path that an error is to name.

They know nothing of the catalog; what has to fit to something else is checked where that is changed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from config.limits import CUSTOMER_KEY_LENGTH, KEY_LENGTH, NAME_LENGTH, Limit
from rating.money import ZERO, is_within_bounds, plain
from rating.periods import Cadence, CadenceError
from tollway.control.errors import ControlCode, ControlError, invalid
from tollway.storable import is_storable

YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2999

KEY_LENGTH_MAX: Final = 256
"""Of the key that a subscription or a grant is given to be safe to repeat."""

CADENCE_MIN: Final = timedelta(minutes=1)
"""A billing period is at least this long."""
PERIODS_MAX: Final = 10_000
"""So many billing periods may have begun when a subscription is made known."""

_SLUG: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_CUSTOMER_KEY: Final = re.compile(r"[^\s/{}\x00-\x1f\x7f\ud800-\udfff]+")
_CURRENCY: Final = re.compile(r"[A-Z][A-Z0-9_]{2,23}")


def check_slug(text: str, path: str) -> None:
    """A key that people write: of a plan, a phase, a rate card."""
    check_length(text, path, KEY_LENGTH)
    if not _SLUG.fullmatch(text):
        hint = "write 1 to 64 lower-case letters and digits, with single underscores between, as in llm_tokens"
        raise invalid(path, "a key", f"`{text[:64]}`", hint)


def check_customer_key(text: str, path: str) -> None:
    """The key of a customer: other systems choose it, so that little is asked of it."""
    check_length(text, path, CUSTOMER_KEY_LENGTH)
    if not _CUSTOMER_KEY.fullmatch(text):
        hint = "use 1 to 256 characters, without white space, slashes and braces, as in acme or org:42"
        raise invalid(path, "a customer's key", f"`{text[:64]!r}`", hint)


def check_currency(text: str, path: str) -> None:
    """A currency, or a unit of credit that is counted like one."""
    if not _CURRENCY.fullmatch(text):
        hint = "write an ISO 4217 code such as USD, or one of your own in capitals, such as CREDITS"
        raise invalid(path, "a currency code of 3 to 24 characters in capitals", f"`{text[:24]}`", hint)


def check_count(count: int, path: str, limit: Limit) -> None:
    """That there are not more of a thing than its limit says."""
    if count > limit.number:
        raise invalid(path, str(limit), str(count), f"leave some out; {limit.hint}")


def check_length(text: str, path: str, limit: Limit) -> None:
    """That a text is not longer than its limit says."""
    if len(text) > limit.number:
        raise invalid(path, str(limit), str(len(text)), f"shorten it; {limit.hint}")


def check_described(name: str, path: str, limit: Limit = NAME_LENGTH) -> None:
    """A name or a description: any text that can be stored, and is not too long."""
    check_length(name, path, limit)
    check_storable(name, path)


def check_text(text: str, path: str, length_max: int) -> None:
    """A text that has to be there, and not be longer than so many characters."""
    if not 1 <= len(text) <= length_max:
        got = "an empty one" if not text else f"{len(text)} characters"
        raise invalid(path, f"a text of 1 to {length_max} characters", got, "shorten it, or fill it in")
    check_storable(text, path)


def check_storable(text: str, path: str) -> None:
    """Any text that the database can hold."""
    if not is_storable(text):
        raise invalid(path, "text", "a NUL or half a surrogate pair in it", "remove that character")


def check_duration(text: str, path: str) -> None:
    """A length of time in ISO 8601."""
    try:
        Cadence.parse(text)
    except CadenceError as error:
        raise ControlError(ControlCode.INVALID, error.what, path, error.hint) from error


def check_cadence(text: str, path: str) -> None:
    """How long a billing period is: a length of time of at least a minute."""
    check_duration(text, path)
    cadence = Cadence.parse(text)
    if cadence.length < CADENCE_MIN:
        raise invalid(
            path, "a cadence of at least a minute", f"`{text[:40]}`", "write PT1M, or a longer one such as P1M"
        )


def check_positive(value: object, path: str, hint: str) -> None:
    """An amount above 0."""
    if not isinstance(value, Decimal) or not is_within_bounds(value) or value <= 0:
        raise invalid(path, "a decimal above 0", _shown(value), hint)


def check_unique(values: Collection[str | None], path: str, field: str | None) -> None:
    """That no value is there twice; each is an item of the list at `path`, or the item's `field`."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value is None:
            continue
        if value in seen:
            where = f"{path}[{index}]" if field is None else f"{path}[{index}].{field}"
            raise invalid(where, "each one once", f"`{value}` again", "remove or rename one of the two")
        seen.add(value)


def utc_instant(at: datetime, path: str) -> datetime:
    """The instant in UTC. Raises `ControlError` if it has no offset, or is too far away to count with."""
    if at.tzinfo is None:
        raise invalid(path, "an instant with an offset", "one without", "write it as in 2026-03-01T12:00:00Z")
    if not YEAR_MIN <= at.year <= YEAR_MAX:
        raise invalid(path, f"a year of {YEAR_MIN} to {YEAR_MAX}", str(at.year), "correct the year")
    return at.astimezone(UTC)


def instant_text(at: datetime) -> str:
    """An instant as messages name it."""
    return at.isoformat().replace("+00:00", "Z")


def _shown(value: object) -> str:
    if not isinstance(value, Decimal):
        return f"a {type(value).__name__}"
    if not value.is_finite():
        return str(value)
    return plain(value) if is_within_bounds(value) and value != ZERO else "0" if not value else "a very long number"
