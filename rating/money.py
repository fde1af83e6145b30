"""
Exact amounts and quantities, and the few places where a digit may be dropped.

The core computes in `EXACT`, a decimal context that raises rather than rounds. Two things are rounded, and
only here: an amount to its currency's minor unit (`round_minor`), and a quotient that may not end
(`quotient`). Numbers from outside are bounded (`parse_decimal`), so that no product of them can outgrow the
context.
"""

import decimal
import re
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

DIGITS_MAX: Final = 100
"""A decimal from outside has at most this many digits before the point, and as many after it."""

QUOTIENT_DIGITS: Final = 30
"""A quotient that is not rounded to anything else keeps this many digits after the point."""

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)

# A detail multiplies a quantity, a conversion factor, a price and a percentage: within `DIGITS_MAX` each, it
# spans less than 900 digits.
_PRECISION: Final = 1000
_BUGS: Final = [decimal.InvalidOperation, decimal.Overflow, decimal.DivisionByZero]


def _context(rounding: str, traps: list[type[decimal.DecimalException]], precision: int) -> Context:
    return Context(precision, rounding, decimal.MIN_EMIN, decimal.MAX_EMAX, capitals=1, clamp=0, traps=traps)


EXACT: Final = _context(ROUND_HALF_UP, [decimal.Inexact, *_BUGS], _PRECISION)
_FINITE: Final = _context(ROUND_HALF_UP, [decimal.Inexact, *_BUGS], DIGITS_MAX)
_ROUNDING: Final = {
    rounding: _context(rounding, _BUGS, _PRECISION)
    for rounding in (ROUND_HALF_UP, decimal.ROUND_FLOOR, decimal.ROUND_CEILING)
}

# ISO 4217: the currencies whose minor unit is not a hundredth.
_MINOR_DIGITS: Final = {
    code: digits
    for digits, codes in {
        0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
        3: "BHD IQD JOD KWD LYD OMR TND",
        4: "CLF UYW",
    }.items()
    for code in codes.split()
}

_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,9})?")
_NUMBER_LENGTH_MAX: Final = 2 * DIGITS_MAX + 8


def use_exact() -> None:
    """Compute exactly in this thread from now on: rounding raises `decimal.Inexact`."""
    decimal.setcontext(EXACT)


def minor_digits(currency: str) -> int:
    """Digits after the point of the currency's minor unit: USD 2, JPY 0, KWD 3, a code of one's own 2."""
    return _MINOR_DIGITS.get(currency.upper(), 2)


def round_minor(amount: Decimal, currency: str) -> Decimal:
    """Round to the currency's minor unit, half away from zero."""
    return round_half_up(amount, minor_digits(currency))


def round_half_up(value: Decimal, digits: int) -> Decimal:
    """Round to `digits` after the point, half away from zero."""
    return rounded(value, digits, ROUND_HALF_UP)


def rounded(value: Decimal, digits: int, rounding: str) -> Decimal:
    """Round to `digits` after the point, by one of the decimal module's modes: half up, floor or ceiling."""
    return value.quantize(Decimal((0, (1,), -digits)), context=_ROUNDING[rounding])


def quotient(
    dividend: Decimal, divisor: Decimal, digits: int = QUOTIENT_DIGITS, rounding: str = ROUND_HALF_UP
) -> Decimal:
    """Divide, rounded once to `digits` after the point: the one way the core divides."""
    return rounded(_ROUNDING[rounding].divide(dividend, divisor), digits, rounding)


def reciprocal(value: Decimal) -> Decimal | None:
    """1 / value where that ends within `DIGITS_MAX` digits, as it does for 1000 or 1024; else None."""
    try:
        return _FINITE.divide(ONE, value)
    except decimal.Inexact:
        return None


def plain(amount: Decimal) -> str:
    """Write without an exponent and without trailing zeros: `1E+2` is "100", `2.50` is "2.5", `-0` is "0"."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if amount else "0"


def is_within_bounds(value: Decimal) -> bool:
    """True if finite, and with no more than `DIGITS_MAX` digits before and after the point."""
    if not value.is_finite():
        return False
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -DIGITS_MAX and value.adjusted() < DIGITS_MAX


def parse_decimal(text: str) -> Decimal:
    """
    Read a number as JSON writes it, exactly.

    Raises:
        ValueError: It is no number (`NaN`, `1_000`, ` 1`), or it has too many digits (`1e999999`).
    """
    if len(text) > _NUMBER_LENGTH_MAX:
        raise ValueError(f"a number of at most {DIGITS_MAX} digits before and after the point")
    if not _NUMBER.fullmatch(text):
        raise ValueError("a number, as in 12 or 0.05")
    value = Decimal(text)
    if not is_within_bounds(value):
        raise ValueError(f"a number of at most {DIGITS_MAX} digits before and after the point")
    return value
