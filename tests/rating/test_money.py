"""Exact arithmetic, rounding and the bounds of what is let in."""

import decimal
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.money import (
    DIGITS_MAX,
    is_within_bounds,
    minor_digits,
    parse_decimal,
    plain,
    quotient,
    reciprocal,
    round_half_up,
    round_minor,
    use_exact,
)

finite = st.decimals(allow_nan=False, allow_infinity=False).filter(is_within_bounds)


def test_silent_rounding_is_an_exception() -> None:
    """A third has no exact decimal, so dividing by three raises."""
    use_exact()
    with pytest.raises(decimal.Inexact):
        Decimal(1) / Decimal(3)


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        ("2.675", "USD", "2.68"),
        ("-2.675", "USD", "-2.68"),
        ("0.5", "JPY", "1"),
        ("-0.5", "jpy", "-1"),
        ("1.0005", "KWD", "1.001"),
        ("1.225", "CREDITS", "1.23"),
        ("0.004", "EUR", "0"),
    ],
)
def test_an_amount_rounds_to_its_minor_unit_half_away_from_zero(amount: str, currency: str, rounded: str) -> None:
    """USD has two digits, JPY none, KWD three, and a code nobody knows two."""
    use_exact()
    assert round_minor(Decimal(amount), currency) == Decimal(rounded)


def test_minor_units_are_those_of_iso_4217() -> None:
    """Most currencies have two digits after the point."""
    assert [minor_digits(code) for code in ("USD", "JPY", "KRW", "BHD", "KWD", "CLF", "CREDITS")] == [
        2,
        0,
        0,
        3,
        3,
        4,
        2,
    ]


@pytest.mark.parametrize(
    ("amount", "text"),
    [("1E+2", "100"), ("2.50", "2.5"), ("-0", "0"), ("-0.00", "0"), ("0E+9", "0"), ("1E-7", "0.0000001")],
)
def test_amounts_are_written_plainly(amount: str, text: str) -> None:
    """No exponent, no trailing zeros, no negative zero."""
    assert plain(Decimal(amount)) == text


@given(finite)
def test_what_is_written_reads_back_as_the_same(value: Decimal) -> None:
    """Writing loses no digit."""
    assert Decimal(plain(value)) == value


@given(finite)
def test_every_bounded_number_can_be_parsed(value: Decimal) -> None:
    """Both notations are read."""
    assert parse_decimal(str(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "1e999999",
        "1e100",
        "1e-101",
        "0e999999999",
        "9" * 101,
        "NaN",
        "Infinity",
        "",
        " 1",
        "1_0",
        "+1",
        "٣",
        "1\n",
    ],
)
def test_what_could_blow_up_is_refused(text: str) -> None:
    """A number must be a JSON number within the bounds."""
    with pytest.raises(ValueError, match="a number"):
        parse_decimal(text)


def test_the_largest_numbers_multiply_exactly() -> None:
    """A quantity, a factor, a price and a percentage at the bounds stay within the context."""
    use_exact()
    nines = Decimal("9" * DIGITS_MAX + "." + "9" * DIGITS_MAX)
    assert nines * nines * nines * Decimal("99." + "9" * DIGITS_MAX) > 0


def test_a_quotient_is_cut_in_one_place() -> None:
    """Thirty digits after the point, half up; a reciprocal that ends is exact."""
    use_exact()
    assert quotient(Decimal(2), Decimal(3)) == Decimal("0." + "6" * 29 + "7")
    assert quotient(Decimal(5), Decimal(2), digits=0) == 3
    assert reciprocal(Decimal(1024)) == Decimal("0.0009765625")
    assert reciprocal(Decimal(3)) is None


@given(finite, st.integers(0, 6))
def test_rounding_moves_by_half_a_unit_at_most(value: Decimal, digits: int) -> None:
    """Rounded is within half of the last digit that is kept."""
    use_exact()
    assert abs(round_half_up(value, digits) - value) * 2 <= Decimal(1).scaleb(-digits)
