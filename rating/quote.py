"""
A quote: what some usage costs under a price, for one JSON object, without a catalog or a customer.

It prices exactly as the stream does, and is for checking a price by hand or a file of them by the line.
"""

from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from rating.details import Detail, details
from rating.fields import Fields, PriceError, unexpected
from rating.money import ZERO, plain, use_exact
from rating.prices import (
    Flat,
    Free,
    Json,
    Pricing,
    conversion_from_v1,
    discounts_from_v1,
    price_from_v1,
)

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_CURRENCY_LENGTH_MAX: Final = 24


def quote(obj: object) -> Json:
    """
    Price the usage of one quote.

    Args:
        obj: `{"price", "usage", "used_before": "0", "currency": "USD", "discounts", "unit_config",
            "period_closed": true}`, where `price`, `discounts` and `unit_config` are as in the v1 API.
            `usage` comes on top of `used_before`, and may be left out for a flat price.

    Returns:
        `{"amount", "details", "total_rounded"}`: the exact amount, with discounts and, if the period is
        closed, the minimum; the details it is made of; and the sum of their rounded amounts.

    Raises:
        PriceError: Naming the path of what is wrong.
    """
    fields = Fields(obj, "$", in_snake_case=True)
    written, path = fields.take("price")
    if written is None:
        raise unexpected(path, "a price", written, 'write one, as in {"type": "unit", "amount": "0.05"}')
    price = price_from_v1(written, path)
    usage = fields.decimal("usage", ZERO if isinstance(price, Free | Flat) else None)
    used_before = fields.decimal("usedBefore", ZERO)
    pricing = Pricing(
        price,
        _currency(fields),
        conversion_from_v1(*fields.take("unitConfig")),
        discounts_from_v1(*fields.take("discounts")),
    )
    closed, closed_path = fields.take("periodClosed")
    if closed is not None and not isinstance(closed, bool):
        raise unexpected(closed_path, "true or false", closed, "false leaves the minimum out")
    fields.end()
    use_exact()
    rows = details(pricing, used_before + usage, used_before or None, closed is not False)
    return {
        "amount": plain(sum((row.amount for row in rows), ZERO)),
        "details": [_detail(row) for row in rows],
        "total_rounded": plain(sum((row.rounded for row in rows), ZERO)),
    }


def quote_line(raw: bytes) -> tuple[Json, bool]:
    """Price one line of JSON: the quote and True, or `{"error": {"message", "path"}}` and False."""
    try:
        return quote(_DECODER.decode(raw)), True
    except PriceError as error:
        return _error(f"{error.message}; {error.hint}", error.path), False
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _error(f"`$`: expected one JSON object, got something else: {error}", "$"), False
    except (InvalidOperation, RecursionError):
        return _error("`$`: expected plain numbers and little nesting; write the numbers as strings", "$"), False


def _currency(fields: Fields) -> str:
    value, path = fields.take("currency")
    if value is None:
        return "USD"
    if not isinstance(value, str) or not (value.isascii() and value.isalnum()) or len(value) > _CURRENCY_LENGTH_MAX:
        raise unexpected(path, "a currency code", value, 'as in "USD"; a code of your own has two decimals')
    return value.upper()


def _detail(row: Detail) -> Json:
    return {
        "name": row.name,
        "quantity": plain(row.quantity),
        "unit_price": None if row.unit_price is None else plain(row.unit_price),
        "flat_price": None if row.flat_price is None else plain(row.flat_price),
        "amount": plain(row.amount),
        "rounded": plain(row.rounded),
    }


def _error(message: str, path: str) -> Json:
    return {"error": {"message": message, "path": path}}
