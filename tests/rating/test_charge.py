"""The running total, its segments and what they promise."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rating.charge import PriceSegment, commitment, convert, packages, prorate, segment_at, total
from rating.money import ZERO, round_minor, use_exact
from rating.prices import (
    Discounts,
    Flat,
    Free,
    Graduated,
    Operation,
    Package,
    Price,
    Pricing,
    Rounding,
    Tier,
    Unit,
    UnitConversion,
    Volume,
)
from tests.rating.strategies import discounts, graduated, prices, pricings, quantities, usage_prices
from tests.repeats import repeats

D = Decimal
TIERS = (Tier(D(10), D(1), D(100)), Tier(D(20), D("0.5")), Tier(None, D("0.1"), D(5)))


@given(pricing=pricings(prices), a=quantities, b=quantities)
def test_cutting_a_stream_does_not_change_the_bill(pricing: Pricing, a: Decimal, b: Decimal) -> None:
    """Charging a + b at once, or a and then b, comes to the same amount."""
    assert charge(pricing, ZERO, a + b) == charge(pricing, ZERO, a) + charge(pricing, a, b)


def charge(pricing: Pricing, used_before: Decimal, used_now: Decimal) -> Decimal:
    """What usage costs on top of what the same period already used."""
    return total(pricing, used_before + used_now) - total(pricing, used_before)


def numbers(segment: PriceSegment) -> tuple[Decimal, Decimal | None, Decimal, Decimal]:
    """Its start, its end, its base and its unit price."""
    return segment.start, segment.until, segment.base, segment.unit_price


@settings(max_examples=repeats(500))
@given(pricing=pricings(prices), made_at=quantities, usage=quantities)
@example(Pricing(Package(D(3), D(10)), "USD"), ZERO, D(5))
def test_a_segment_tells_the_total_wherever_it_covers(pricing: Pricing, made_at: Decimal, usage: Decimal) -> None:
    """At the usage it was made for, and above its start up to its end, a segment is the total."""
    segment = segment_at(pricing, made_at)
    assert segment.at(made_at) == total(pricing, made_at)
    end = usage if segment.until is None else segment.until
    for probe in (usage, segment.start, segment.start + D("1E-31"), (segment.start + end) / 2, end):
        if segment.covers(probe):
            assert segment.at(probe) == total(pricing, probe)


@given(pricing=st.builds(Pricing, usage_prices, st.just("USD"), st.none(), discounts), usage=quantities)
def test_without_conversion_a_segment_covers_more_than_one_usage(pricing: Pricing, usage: Decimal) -> None:
    """Only zero, and the crossing of a maximum at a number that does not end, are points."""
    segment = segment_at(pricing, usage)
    capped = not isinstance(pricing.price, Flat) and total(pricing, usage) != total(
        Pricing(_uncapped(pricing.price), "USD", None, pricing.discounts), usage
    )
    assert segment.covers(usage) or usage == segment.start or capped


def _uncapped(price: Price) -> Price:
    return msgspec.structs.replace(price, maximum_amount=None)


@given(pricing=st.builds(Pricing, graduated, st.just("USD"), st.none(), discounts), a=quantities, b=quantities)
def test_more_usage_is_never_cheaper_under_a_graduated_price(pricing: Pricing, a: Decimal, b: Decimal) -> None:
    """A graduated total only rises."""
    assert charge(pricing, a, b) >= 0


@given(pricing=pricings(usage_prices), usage=quantities)
def test_the_total_stays_below_the_maximum_and_the_commitment_reaches_the_minimum(
    pricing: Pricing, usage: Decimal
) -> None:
    """The maximum binds while the period runs, the minimum when it closes."""
    assert not isinstance(pricing.price, Free | Flat)
    minimum, maximum = pricing.price.minimum_amount, pricing.price.maximum_amount
    amount = total(pricing, usage)
    assert amount >= 0
    assert maximum is None or amount <= maximum
    assert amount + commitment(pricing, usage) == max(amount, minimum or ZERO)


@pytest.mark.parametrize(
    ("usage", "start", "until", "base", "unit_price"),
    [
        ("0", "0", "10", "100", "1"),
        ("10", "0", "10", "100", "1"),
        ("10.001", "10", "20", "110", "0.5"),
        ("21", "20", None, "120", "0.1"),
    ],
)
def test_a_graduated_segment_is_its_tier(usage: str, start: str, until: str | None, base: str, unit_price: str) -> None:
    """The upper bound is inclusive, and the base holds all that came before with the tier's flat part."""
    segment = segment_at(Pricing(Graduated(TIERS), "USD"), D(usage))
    assert numbers(segment) == (D(start), None if until is None else D(until), D(base), D(unit_price))


def test_a_volume_tier_makes_the_period_cheaper() -> None:
    """Reaching the second tier reprices the whole, so the charge is negative."""
    pricing = Pricing(Volume((Tier(D(15), D(10)), Tier(None, D(5)))), "USD")
    assert charge(pricing, D(15), D(1)) == -70


def test_a_maximum_ends_the_segment_that_reaches_it() -> None:
    """Below 10 units each costs 10, above nothing more is added."""
    pricing = Pricing(Unit(D(10), maximum_amount=D(100)), "USD")
    assert numbers(segment_at(pricing, D(7))) == (ZERO, D(10), ZERO, D(10))
    assert numbers(segment_at(pricing, D(11))) == (D(10), None, D(100), ZERO)


def test_a_maximum_inside_a_tier_ends_the_segment_before_the_tier_does() -> None:
    """The tier goes to 10, but its fifth unit reaches the maximum."""
    tiers = (Tier(D(10), D(1)), Tier(None, D(2)))
    pricing = Pricing(Graduated(tiers, maximum_amount=D(5)), "USD")
    assert numbers(segment_at(pricing, D(1))) == (ZERO, D(5), ZERO, D(1))
    assert numbers(segment_at(pricing, D(6))) == (D(5), D(10), D(5), ZERO)
    assert numbers(segment_at(pricing, D(11))) == (D(10), None, D(5), ZERO)


def test_the_lower_bound_of_a_segment_belongs_to_the_segment_before() -> None:
    """At exactly ten units only one package is begun, and at zero none."""
    pricing = Pricing(Package(D(3), D(10)), "USD")
    assert not segment_at(pricing, D(11)).covers(D(10))
    assert not segment_at(pricing, D(1)).covers(ZERO)
    assert numbers(segment_at(pricing, ZERO)) == (ZERO, ZERO, ZERO, ZERO)


def test_free_units_are_a_segment_of_their_own() -> None:
    """Up to the free units nothing is added, then the first tier begins at zero."""
    pricing = Pricing(Unit(D(2)), "USD", None, Discounts(usage=D(5)))
    assert numbers(segment_at(pricing, D(5))) == (ZERO, D(5), ZERO, ZERO)
    assert numbers(segment_at(pricing, D(6))) == (D(5), None, ZERO, D(2))


def test_whole_thousands_are_one_segment_each() -> None:
    """Rounding a thousandth up is a staircase whose steps the cursor knows."""
    thousands = UnitConversion(Operation.DIVIDE, D(1000), Rounding.CEILING)
    pricing = Pricing(Unit(D(3)), "USD", thousands)
    assert numbers(segment_at(pricing, D(1001))) == (D(1000), D(2000), D(6), ZERO)


def test_a_bound_that_is_no_finite_decimal_is_met_from_inside() -> None:
    """Ten priced units are 3.33… metered ones: neither tier's segment reaches over to the other."""
    triple = UnitConversion(Operation.MULTIPLY, D(3))
    pricing = Pricing(Graduated((Tier(D(10), D(1)), Tier(None, D(2)))), "USD", triple)
    below, above = segment_at(pricing, D(3)), segment_at(pricing, D(4))
    assert below.until is not None
    assert below.until * 3 < 10 < above.start * 3
    assert above.start - below.until == D("1E-30")


def test_a_division_that_ends_is_linear() -> None:
    """Bytes to gigabytes by 1024³ lose no digit, so that a byte more is a multiplication."""
    gigabytes = UnitConversion(Operation.DIVIDE, D(1024) ** 3)
    pricing = Pricing(Unit(D("0.1")), "USD", gigabytes)
    segment = segment_at(pricing, D(5))
    assert segment.until is None
    assert segment.unit_price * 1024**3 == D("0.1")


def test_a_division_that_does_not_end_keeps_thirty_digits() -> None:
    """A third of one unit is 0.333…, thirty times."""
    use_exact()
    assert convert(UnitConversion(Operation.DIVIDE, D(3)), D(1)) == D("0." + "3" * 30)


def test_thirds_of_a_cent_add_up() -> None:
    """Three splits of one dollar's third are a dollar, since each is the difference of two totals."""
    pricing = Pricing(Unit(D(1)), "USD", UnitConversion(Operation.DIVIDE, D(3)))
    splits = [charge(pricing, D(before), D(1)) for before in range(3)]
    assert round_minor(sum(splits, ZERO), "USD") == 1


@pytest.mark.parametrize(("quantity", "count"), [("0", 0), ("0.001", 1), ("10", 1), ("10.5", 2), ("1E+40", 10**39)])
def test_a_package_begun_is_a_package(quantity: str, count: int) -> None:
    """Ten units per package, none at zero."""
    use_exact()
    assert packages(D(quantity), D(10)) == count


@given(seconds=st.integers(0, 31 * 86_400), amount=quantities)
def test_the_parts_of_a_prorated_amount_add_up(seconds: int, amount: Decimal) -> None:
    """The share before a change and the share after it are the whole, to far below a minor unit."""
    assume(amount > 0)
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
    cut = start + timedelta(seconds=seconds)
    parts = prorate(amount, (start, cut), (start, end)) + prorate(amount, (cut, end), (start, end))
    assert abs(parts - amount) <= D("1E-29")


@given(usage=quantities, percentage=st.integers(0, 100))
def test_a_percentage_is_taken_without_dividing(usage: Decimal, percentage: int) -> None:
    """Discounted and discount are the price, exactly."""
    price = Unit(D("0.123456789"))
    discounted = total(Pricing(price, "USD", None, Discounts(percentage=D(percentage))), usage)
    assert discounted * 100 == total(Pricing(price, "USD"), usage) * (100 - percentage)
