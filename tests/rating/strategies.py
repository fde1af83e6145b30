"""Prices, quantities and pricings for the laws: small enough to meet tier bounds and maximums often."""

from decimal import Decimal

from hypothesis import strategies as st

from rating.money import ZERO
from rating.prices import (
    Discounts,
    Dynamic,
    Flat,
    Graduated,
    Operation,
    Package,
    PaymentTerm,
    Price,
    Pricing,
    Rounding,
    Tier,
    Unit,
    UnitConversion,
    UsagePrice,
    Volume,
)


def decimals(top: int, digits: int) -> st.SearchStrategy[Decimal]:
    """Decimals of 0 to `top` with up to so many digits after the point, often round."""
    fine = st.integers(0, top * 10**digits).map(lambda value: Decimal(value).scaleb(-digits))
    return st.integers(0, top).map(Decimal) | fine


quantities = decimals(40, 3)
amounts = decimals(20, 4)
positive = amounts.filter(lambda amount: amount > 0)


@st.composite
def commitments(draw: st.DrawFn) -> dict[str, Decimal | None]:
    """A minimum and a maximum, either or none, in order."""
    low, high = sorted((draw(decimals(150, 3)), draw(decimals(150, 3))))
    return {
        "minimum_amount": low if draw(st.booleans()) else None,
        "maximum_amount": high if draw(st.booleans()) else None,
    }


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    """One to four tiers, the last without an end, each with a unit price, a flat price or both."""
    bounds = sorted(draw(st.sets(decimals(30, 1).filter(bool), max_size=3)))
    found = []
    for bound in [*bounds, None]:
        unit, flat = draw(st.none() | amounts), draw(st.none() | amounts)
        found.append(Tier(bound, ZERO if unit is None and flat is None else unit, flat))
    return tuple(found)


@st.composite
def _with_commitments(draw: st.DrawFn, kind: str) -> UsagePrice:
    limits = draw(commitments())
    match kind:
        case "unit":
            return Unit(draw(amounts), **limits)
        case "dynamic":
            return Dynamic(draw(amounts), **limits)
        case "package":
            return Package(draw(amounts), draw(positive), **limits)
        case "volume":
            return Volume(draw(tiers()), **limits)
        case _:
            return Graduated(draw(tiers()), **limits)


graduated: st.SearchStrategy[UsagePrice] = _with_commitments("graduated")
usage_prices = st.sampled_from(["unit", "dynamic", "package", "volume", "graduated"]).flatmap(_with_commitments)
prices: st.SearchStrategy[Price] = usage_prices | st.builds(Flat, amounts, st.sampled_from(PaymentTerm))
conversions = st.none() | st.builds(
    UnitConversion,
    st.sampled_from(Operation),
    st.sampled_from([Decimal(text) for text in ("1", "3", "0.7", "8", "0.25", "1000")]),
    st.sampled_from(Rounding),
    st.integers(0, 2),
)
discounts = st.builds(Discounts, st.none() | decimals(100, 2), st.none() | decimals(15, 2))


def pricings(prices: st.SearchStrategy[Price] | st.SearchStrategy[UsagePrice]) -> st.SearchStrategy[Pricing]:
    """A price with any conversion and any discounts, in a currency of 2, 0 or 3 digits."""
    return st.builds(Pricing, prices, st.sampled_from(["USD", "JPY", "KWD"]), conversions, discounts)
