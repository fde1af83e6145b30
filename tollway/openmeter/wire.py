"""What all requests and answers share: names in either case, instants, amounts, parameters of pages."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from litestar.params import QueryParameter
from msgspec import Meta
from ulid import ULID

from config.limits import NAME_LENGTH
from rating.money import DIGITS_MAX, parse_decimal

T = TypeVar("T")
Json: TypeAlias = dict[str, Any]

Numeric = Annotated[
    str,
    Meta(
        # `$` alone would let a line feed follow.
        pattern=rf"^-?[0-9]{{1,{DIGITS_MAX}}}(\.[0-9]{{1,{DIGITS_MAX}}})?$(?!\n)",
        max_length=2 * DIGITS_MAX + 2,
        description=f"A decimal with at most {DIGITS_MAX} digits before the point, and as many after it.",
    ),
]
Text = Annotated[str, Meta(extra_json_schema={"extra": {"max_length": NAME_LENGTH.number}})]
"""A name or a description. How long it is, is told in the description of the API, and checked where it is kept."""
Metadata: TypeAlias = dict[str, str]

PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1000
PAGE_MAX: Final = 1_000_000_000

Page = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)]
PageOrAll = Annotated[int | None, QueryParameter(ge=1, le=PAGE_MAX)]
PageSizeV1 = Annotated[int, QueryParameter(name="pageSize", ge=1, le=PAGE_SIZE_MAX)]
PageSizeV3 = Annotated[int, QueryParameter(name="page[size]", ge=1, le=PAGE_SIZE_MAX)]
PageNumberV3 = Annotated[int, QueryParameter(name="page[number]", ge=1, le=PAGE_MAX)]

_SNAKE: Final = re.compile(r"_([a-z0-9])")
_CAPITAL: Final = re.compile(r"([a-z0-9])([A-Z])")


def camel_name(name: str) -> str:
    """`unit_price` as v1 writes it."""
    return _SNAKE.sub(lambda found: found[1].upper(), name)


def snake_name(name: str) -> str:
    """`unitPrice` as v3 writes it."""
    return _CAPITAL.sub(lambda found: f"{found[1]}_{found[2].lower()}", name)


def instant(at: datetime | None) -> str | None:
    """An instant in UTC, as RFC 3339 writes it."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def amount(text: str) -> Decimal:
    """The number of a decimal string that was checked already."""
    return parse_decimal(text)


def derived_id(created_at: datetime, *parts: str) -> str:
    """The id of something that is known by its key: a ULID that its making and its key give, always the same."""
    milliseconds = int(created_at.timestamp() * 1000)
    digest = blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=10).digest()
    return str(ULID(milliseconds.to_bytes(6, "big") + digest))


def listed(values: list[str] | None) -> list[str]:
    """A parameter that may be repeated, or hold several values with commas between."""
    return [part for value in values or () for part in value.split(",") if part]
