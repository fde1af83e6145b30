"""
Invoice line details: what the usage of a billing period costs, one row for each part of the price it used.

The whole period is worked out anew, row by row, and a line that covers only the end of it is the difference
to what the lines before it showed. So the exact column adds up to the running total, and the rounded
column, however the period was cut into lines, to what one line would have shown. A row of a volume tier that
no longer holds comes back with a negative quantity.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple, assert_never

from msgspec import Struct
from msgspec.structs import replace

from rating.charge import billable_quantity, commitment, packages, tier_of, top_up
from rating.money import ONE, ZERO, round_minor, use_exact
from rating.prices import (
    Dynamic,
    Flat,
    Free,
    Graduated,
    Package,
    PaymentTerm,
    Price,
    Pricing,
    Tier,
    Unit,
    Volume,
)

MIN_SPEND: Final = "min-spend"


class Category(StrEnum):
    """Whether a detail is for usage or a flat part, or is what a minimum adds."""

    REGULAR = "regular"
    COMMITMENT = "commitment"


class Amounts(NamedTuple):
    """What a detail comes to, and what was taken off it."""

    gross: Decimal
    percentage_discount: Decimal = ZERO
    maximum_discount: Decimal = ZERO
    """What was above the maximum of the period."""

    @property
    def discount(self) -> Decimal:
        """All that was taken off."""
        return self.percentage_discount + self.maximum_discount

    @property
    def net(self) -> Decimal:
        """What is left to pay."""
        return self.gross - self.percentage_discount - self.maximum_discount


class Detail(Struct, frozen=True):
    """One row below an invoice line: a quantity at a unit price, or a flat price a number of times."""

    name: str
    category: Category
    quantity: Decimal
    unit_price: Decimal | None
    flat_price: Decimal | None
    exact: Amounts
    minor: Amounts
    """The same, each in whole minor units of the currency: what the invoice shows."""

    @property
    def gross(self) -> Decimal:
        """Quantity times price, exact."""
        return self.exact.gross

    @property
    def discount(self) -> Decimal:
        """What was taken off, exact."""
        return self.exact.discount

    @property
    def amount(self) -> Decimal:
        """What is left to pay, exact."""
        return self.exact.net

    @property
    def rounded(self) -> Decimal:
        """What is left to pay on the invoice, in minor units."""
        return self.minor.net


class _Key(NamedTuple):
    """Rows of one key differ only in quantity."""

    name: str
    unit_price: Decimal | None
    flat_price: Decimal | None

    @property
    def price(self) -> Decimal:
        """Whichever of the two it has."""
        return (self.unit_price or ZERO) + (self.flat_price or ZERO)


class _Row(NamedTuple):
    quantity: Decimal
    exact: Amounts
    minor: Amounts


_NOTHING: Final = _Row(ZERO, Amounts(ZERO), Amounts(ZERO))


def details(
    pricing: Pricing, usage: Decimal, used_before: Decimal | None = None, period_closed: bool = False
) -> list[Detail]:
    """
    The details of an invoice line.

    The exact amounts add up to ``total(usage) - total(used_before)``, or to ``total(usage)`` where nothing
    was billed before, plus the commitment when the period is closed. A flat price has no usage to tell by: it
    is due on the first line if in advance, and on the last if in arrears.

    Args:
        pricing: What the period is priced by.
        usage: The period's cumulative usage up to the end of the line.
        used_before: The part of it that earlier lines have billed. None if this is the period's first line,
            which also carries what is owed at zero usage.
        period_closed: True on the period's last line, which carries what the minimum adds.
    """
    use_exact()
    after = _period(pricing, usage)
    before = {} if used_before is None else _period(pricing, used_before)
    if isinstance(pricing.price, Flat):
        in_arrears = pricing.price.payment_term is PaymentTerm.IN_ARREARS
        before = {} if (period_closed if in_arrears else used_before is None) else after
    found = []
    for key in after | before:
        row = _less(after.get(key, _NOTHING), before.get(key, _NOTHING))
        if row != _NOTHING:
            found.append(Detail(key.name, Category.REGULAR, row.quantity, *key[1:], row.exact, row.minor))
    if period_closed:
        found += _min_spend(pricing, usage, sum((row.minor.net for row in after.values()), ZERO))
    return found


def continued_details(
    pricing: Pricing, carried: Decimal, usage: Decimal, charged_before: tuple[Decimal, Decimal], period_closed: bool
) -> list[Detail]:
    """
    The details of a part of a billing period that goes on from an earlier one, which had another price.

    Rows that more usage takes back come first. The exact amounts add up to what `rating.charge.continued` says.

    Args:
        pricing: What the part is priced by.
        carried: The usage of the parts before it.
        usage: What it brings beyond that.
        charged_before: What the parts before cost, exact and as invoices show it: it counts towards the minimum.
        period_closed: Whether the minimum is owed.
    """
    found = details(pricing, carried + usage, carried)
    found.sort(key=lambda row: row.amount >= 0)
    exact = sum((row.amount for row in found), ZERO)
    if exact < 0:
        # What was used before stays charged.
        found, exact = [], ZERO
    minor = sum((row.rounded for row in found), ZERO)
    if minor < 0:
        found = [replace(row, minor=Amounts(ZERO)) for row in found]
        minor = ZERO
    if period_closed and not isinstance(pricing.price, Free | Flat) and pricing.price.minimum_amount is not None:
        before, shown_before = charged_before
        added = top_up(pricing, before + exact)
        least = round_minor(pricing.price.minimum_amount, pricing.currency)
        found += _min_spend_row(added, max(least - shown_before - minor, ZERO))
    return found


def _period(pricing: Pricing, usage: Decimal) -> dict[_Key, _Row]:
    """All rows of the period at its cumulative usage."""
    rows = list(_rows(pricing.price, billable_quantity(pricing, usage)))
    grosses = [quantity * key.price for key, quantity in rows]
    exact = _discounted(grosses, pricing, lambda amount: amount)
    minor = _discounted(grosses, pricing, partial(round_minor, currency=pricing.currency))
    return {key: _Row(quantity, *amounts) for (key, quantity), *amounts in zip(rows, exact, minor, strict=True)}


def _rows(price: Price, quantity: Decimal) -> Iterator[tuple[_Key, Decimal]]:
    """The parts of the price that a quantity uses, in the order in which a maximum fills up."""
    match price:
        case Free():
            return
        case Flat():
            yield _Key("flat-price", None, price.amount), ONE
        case Unit():
            yield _Key("unit-price-usage", price.amount, None), quantity
        case Dynamic():
            yield _Key("usage", price.multiplier, None), quantity
        case Package():
            yield _Key("usage", price.amount, None), packages(quantity, price.quantity_per_package)
        case Volume():
            tier, _ = tier_of(price.tiers, quantity)
            yield from _tier_rows(tier, quantity, "volume-flat-price", "volume-tiered-price")
        case Graduated():
            lower = ZERO
            for number, tier in enumerate(price.tiers, 1):
                if quantity <= lower and number > 1:
                    break
                until = quantity if tier.up_to_amount is None else min(quantity, tier.up_to_amount)
                prefix = f"graduated-tiered-{number}"
                yield from _tier_rows(tier, until - lower, f"{prefix}-flat-price", f"{prefix}-price-usage")
                lower = until
        case _:
            assert_never(price)


def _tier_rows(tier: Tier, quantity: Decimal, flat: str, usage: str) -> Iterator[tuple[_Key, Decimal]]:
    # The flat part comes first: it is owed before the tier's first unit, so a maximum reaches it first.
    if tier.flat_price is not None:
        yield _Key(flat, None, tier.flat_price), ONE
    if tier.unit_price is not None:
        yield _Key(usage, tier.unit_price, None), quantity


def _discounted(grosses: list[Decimal], pricing: Pricing, rounded: Callable[[Decimal], Decimal]) -> Iterator[Amounts]:
    """Take the percentage off each row, and what is above the maximum off the row that reaches it and on."""
    share = (pricing.discounts.percentage or ZERO).scaleb(-2)
    maximum = None if isinstance(pricing.price, Free | Flat) else pricing.price.maximum_amount
    left = None if maximum is None else rounded(maximum)
    for gross in map(rounded, grosses):
        percentage = rounded(gross * share)
        above = ZERO
        if left is not None:
            above = max(gross - percentage - left, ZERO)
            left -= gross - percentage - above
        yield Amounts(gross, percentage, above)


def _min_spend(pricing: Pricing, usage: Decimal, charged_minor: Decimal) -> Iterator[Detail]:
    """What the minimum adds; its rounded part tops up what the invoices show, to the minor unit."""
    if isinstance(pricing.price, Free | Flat) or pricing.price.minimum_amount is None:
        return
    exact = commitment(pricing, usage)
    minor = max(round_minor(pricing.price.minimum_amount, pricing.currency) - charged_minor, ZERO)
    yield from _min_spend_row(exact, minor)


def _min_spend_row(exact: Decimal, minor: Decimal) -> Iterator[Detail]:
    if exact or minor:
        yield Detail(MIN_SPEND, Category.COMMITMENT, ONE, None, exact, Amounts(exact), Amounts(minor))


def _less(after: _Row, before: _Row) -> _Row:
    exact = Amounts(*(a - b for a, b in zip(after.exact, before.exact, strict=True)))
    minor = Amounts(*(a - b for a, b in zip(after.minor, before.minor, strict=True)))
    return _Row(after.quantity - before.quantity, exact, minor)
