"""
What usage costs: the running total of a billing period, exact, in the currency of its pricing.

Everything is a function of the period's cumulative usage, in metered units. The order is unit conversion,
free units, price, percentage discount, maximum; the minimum is apart, for it is owed only when the period
closes. A price is piecewise linear, so each model says one thing: the segment that a quantity lies on. The total
is read off that segment, and a usage period that stays on it is priced with one multiplication.

What usage costs on top of other usage is the difference of two totals, so a stream may be cut anywhere. It is negative
where more usage makes the whole period cheaper, as a volume tier does.
"""

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Final, assert_never

from msgspec.structs import replace

from rating.money import ONE, QUOTIENT_DIGITS, ZERO, quotient, reciprocal, rounded, use_exact
from rating.prices import (
    Dynamic,
    Flat,
    Free,
    Graduated,
    Operation,
    Package,
    Pricing,
    Rounding,
    Tier,
    Unit,
    UnitConversion,
    UsagePrice,
    Volume,
)

_MODES: Final = {
    Rounding.CEILING: ROUND_CEILING,
    Rounding.FLOOR: ROUND_FLOOR,
    Rounding.HALF_UP: ROUND_HALF_UP,
}
_MICROSECOND: Final = timedelta(microseconds=1)


class PriceSegment:
    """
    A straight part of a running total, above `start`, up to and including `until` (None: no end).

    On it ``total == base + (usage - start) * unit_price``. The start itself belongs to the segment before, save
    that a segment is always right at the usage it was made for. Where start and until are equal, that is all it
    covers. It follows from the pricing and the usage, so snapshots leave it out.
    """

    __slots__ = ("base", "start", "unit_price", "until")

    def __init__(self, start: Decimal, until: Decimal | None, base: Decimal, unit_price: Decimal) -> None:
        self.start = start
        self.until = until
        self.base = base
        self.unit_price = unit_price

    def covers(self, usage: Decimal) -> bool:
        """Whether the segment gives the total at `usage`."""
        return self.start < usage and (self.until is None or usage <= self.until)

    def at(self, usage: Decimal) -> Decimal:
        """The total at a usage that the segment covers."""
        return self.base + (usage - self.start) * self.unit_price


def total(pricing: Pricing, usage: Decimal) -> Decimal:
    """
    The running total of a billing period at its cumulative usage: no minimum, nothing rounded.

    At zero usage it is what the period costs in any case: a flat price, or the flat part of a first tier.
    """
    use_exact()
    price = pricing.price
    if isinstance(price, Free):
        return ZERO
    if isinstance(price, Flat):
        return price.amount * share_after_discount(pricing)
    quantity = billable_quantity(pricing, usage)
    amount = _price_segment(price, quantity).at(quantity) * share_after_discount(pricing)
    maximum = price.maximum_amount
    return amount if maximum is None or amount < maximum else maximum


def commitment(pricing: Pricing, usage: Decimal) -> Decimal:
    """What the minimum adds to the total when the period closes at this usage."""
    price = pricing.price
    if isinstance(price, Free | Flat) or price.minimum_amount is None:
        return ZERO
    return top_up(pricing, total(pricing, usage))


def top_up(pricing: Pricing, charged: Decimal) -> Decimal:
    """What the minimum adds to what a period was charged when it closes."""
    price = pricing.price
    if isinstance(price, Free | Flat) or price.minimum_amount is None:
        return ZERO
    return max(price.minimum_amount - charged, ZERO)


def continued(pricing: Pricing, carried: Decimal, usage: Decimal) -> Decimal:
    """
    What usage costs that goes on from what the period had reached when its price changed.

    What it costs more than the carried usage alone, so that tiers and free units go on. Never below zero: what was
    used before stays charged, also where more usage would have made the whole period cheaper.
    """
    return max(total(pricing, max(carried + usage, ZERO)) - total(pricing, carried), ZERO)


def is_given(pricing: Pricing) -> bool:
    """Whether a discount takes off all that a period costs without any usage; it is shown, with the discount."""
    if share_after_discount(pricing):
        return False
    return bool(total(replace(pricing, discounts=replace(pricing.discounts, percentage=None)), ZERO))


def costs_unused(pricing: Pricing) -> bool:
    """Whether a period has something to show without any usage: a fee, a first tier's flat part, a minimum."""
    return bool(total(pricing, ZERO) or commitment(pricing, ZERO)) or is_given(pricing)


@lru_cache(maxsize=4096)
def first_segment(pricing: Pricing) -> PriceSegment | None:
    """The segment that usage begins on; None where the first unit costs something besides its price."""
    segment = segment_at(pricing, ZERO)
    return segment if not segment.start and not segment.base and segment.until != 0 else None


def segment_at(pricing: Pricing, usage: Decimal) -> PriceSegment:
    """
    The segment of the running total that `usage` lies on: nothing but a multiplication happens up to its end.

    A segment may be shorter than it could be, where its end is no finite decimal, and is a single point where
    units are converted by a rounding other than "ceiling", or by a factor whose reciprocal does not end.
    """
    use_exact()
    price = pricing.price
    if isinstance(price, Free | Flat):
        return PriceSegment(ZERO, None, total(pricing, usage), ZERO)
    segment = _segment_over_usage(pricing, price, usage)
    if segment is None or usage < segment.start or (segment.until is not None and segment.until < usage):
        return PriceSegment(usage, usage, total(pricing, usage), ZERO)
    return segment


def prorate(
    amount: Decimal, service_period: tuple[datetime, datetime], full_period: tuple[datetime, datetime]
) -> Decimal:
    """
    The share of an amount that falls on the service period, by exact duration.

    Not yet in minor units: the quotient keeps `QUOTIENT_DIGITS`, and the invoice line detail is rounded.
    """
    use_exact()
    served, full = ((end - start) // _MICROSECOND for start, end in (service_period, full_period))
    assert full > 0
    return amount if served >= full else quotient(amount * max(served, 0), Decimal(full))


def prorated(
    pricing: Pricing, service_period: tuple[datetime, datetime], full_period: tuple[datetime, datetime]
) -> Pricing:
    """
    A pricing for a shorter period: a flat fee and a minimum are prorated, and nothing else is.

    Both are what a customer owes for having the plan so long. Free units, tiers and a maximum belong to usage, and stay
    whole: usage costs the same per unit in a short period.
    """
    price = pricing.price
    if service_period == full_period or isinstance(price, Free):
        return pricing
    if isinstance(price, Flat):
        price = replace(price, amount=prorate(price.amount, service_period, full_period))
    elif price.minimum_amount is not None:
        price = replace(price, minimum_amount=prorate(price.minimum_amount, service_period, full_period))
    return replace(pricing, price=price)


def billable_quantity(pricing: Pricing, usage: Decimal) -> Decimal:
    """The period's quantity that its price sees: converted, less the free units."""
    use_exact()
    quantity = usage if pricing.conversion is None else convert(pricing.conversion, usage)
    free = pricing.discounts.usage
    return quantity if free is None else max(quantity - free, ZERO)


def convert(conversion: UnitConversion, usage: Decimal) -> Decimal:
    """
    Convert the period's cumulative usage from metered units to priced ones.

    Without rounding, a division by a factor whose reciprocal ends (1000, 1024) is exact; any other keeps
    `QUOTIENT_DIGITS`, half up.
    """
    use_exact()
    factor, rounding = conversion.conversion_factor, conversion.rounding
    if rounding is Rounding.NONE:
        scale = _scale(conversion)
        return quotient(usage, factor) if scale is None else usage * scale
    if conversion.operation is Operation.MULTIPLY:
        return rounded(usage * factor, conversion.precision, _MODES[rounding])
    return quotient(usage, factor, conversion.precision, _MODES[rounding])


def packages(quantity: Decimal, quantity_per_package: Decimal) -> Decimal:
    """How many packages the quantity begins."""
    whole, rest = divmod(quantity, quantity_per_package)
    return whole + ONE if rest else whole


def tier_of(tiers: tuple[Tier, ...], quantity: Decimal) -> tuple[Tier, Decimal]:
    """The tier a quantity falls in, and where that tier begins."""
    lower = ZERO
    for tier in tiers:
        if tier.up_to_amount is None or quantity <= tier.up_to_amount:
            return tier, lower
        lower = tier.up_to_amount
    raise AssertionError("the last tier has no end")


def share_after_discount(pricing: Pricing) -> Decimal:
    """What the percentage discount leaves of 1."""
    percentage = pricing.discounts.percentage
    return ONE if percentage is None else ONE - percentage.scaleb(-2)


def _price_segment(price: UsagePrice, quantity: Decimal) -> PriceSegment:
    """The one definition of each price model, over the billable quantity."""
    match price:
        case Unit():
            return PriceSegment(ZERO, None, ZERO, price.amount)
        case Dynamic():
            return PriceSegment(ZERO, None, ZERO, price.multiplier)
        case Package():
            size, count = price.quantity_per_package, packages(quantity, price.quantity_per_package)
            return PriceSegment(max(count - ONE, ZERO) * size, count * size, count * price.amount, ZERO)
        case Volume():
            tier, lower = tier_of(price.tiers, quantity)
            unit = tier.unit_price or ZERO
            return PriceSegment(lower, tier.up_to_amount, lower * unit + (tier.flat_price or ZERO), unit)
        case Graduated():
            base = lower = ZERO
            for tier in price.tiers:
                base += tier.flat_price or ZERO
                unit, until = tier.unit_price or ZERO, tier.up_to_amount
                if until is None or quantity <= until:
                    return PriceSegment(lower, until, base, unit)
                base += (until - lower) * unit
                lower = until
            raise AssertionError("the last tier has no end")
        case _:
            assert_never(price)


def _segment_over_usage(pricing: Pricing, price: UsagePrice, usage: Decimal) -> PriceSegment | None:
    """The price's segment carried back to metered usage; None where no straight segment is known."""
    conversion, free = pricing.conversion, pricing.discounts.usage or ZERO
    if conversion is not None and conversion.rounding is Rounding.CEILING:
        until = convert(conversion, usage)
        start = max(until - ONE.scaleb(-conversion.precision), ZERO)
        start = _metered(conversion, start, ROUND_CEILING)
        return PriceSegment(start, _metered(conversion, until), total(pricing, usage), ZERO)
    scale = _scale(conversion)
    if scale is None:
        return None
    if free and usage * scale <= free:
        return PriceSegment(ZERO, _metered(conversion, free), total(pricing, usage), ZERO)
    inner = _price_segment(price, billable_quantity(pricing, usage))
    start = _metered(conversion, inner.start + free, ROUND_CEILING)
    end = None if inner.until is None else _metered(conversion, inner.until + free)
    share = share_after_discount(pricing)
    base = inner.at(start * scale - free) * share
    return _capped(PriceSegment(start, end, base, inner.unit_price * scale * share), price.maximum_amount, usage)


def _capped(segment: PriceSegment, maximum: Decimal | None, usage: Decimal) -> PriceSegment:
    """The part of a rising segment below the maximum or the part above it, whichever `usage` lies on."""
    start, until, base, unit_price = segment.start, segment.until, segment.base, segment.unit_price
    if maximum is None:
        return segment
    if base >= maximum:
        return PriceSegment(start, until, maximum, ZERO)
    if not unit_price:
        return segment
    reach = start + quotient(maximum - base, unit_price, rounding=ROUND_FLOOR)
    if usage <= reach:
        return PriceSegment(start, reach if until is None else min(until, reach), base, unit_price)
    return PriceSegment(start + quotient(maximum - base, unit_price, rounding=ROUND_CEILING), until, maximum, ZERO)


def _scale(conversion: UnitConversion | None) -> Decimal | None:
    """Priced units per metered unit; None where no linear rule says it exactly."""
    if conversion is None:
        return ONE
    if conversion.rounding is not Rounding.NONE:
        return None
    factor = conversion.conversion_factor
    return factor if conversion.operation is Operation.MULTIPLY else reciprocal(factor)


def _metered(conversion: UnitConversion | None, quantity: Decimal, rounding: str = ROUND_FLOOR) -> Decimal:
    """The metered usage that converts to a quantity; where it is no finite decimal, the nearest inside."""
    if conversion is None:
        return quantity
    factor = conversion.conversion_factor
    if conversion.operation is Operation.DIVIDE:
        return quantity * factor
    return quotient(quantity, factor, QUOTIENT_DIGITS, rounding)
