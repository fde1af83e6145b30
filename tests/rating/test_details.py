"""What an invoice line shows below it."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from rating.charge import commitment, prorate, total
from rating.details import Category, Detail, details
from rating.money import ZERO, round_minor, use_exact
from rating.prices import Discounts, Flat, Free, Graduated, PaymentTerm, Pricing, Tier, Unit, Volume
from tests.rating.strategies import pricings, quantities, usage_prices
from tests.repeats import repeats

D = Decimal


def exact(rows: list[Detail]) -> Decimal:
    """The exact amounts of the details, together."""
    return sum((row.amount for row in rows), ZERO)


def shown(rows: list[Detail]) -> Decimal:
    """The rounded amounts of the details, together."""
    return sum((row.rounded for row in rows), ZERO)


@settings(max_examples=repeats(400))
@given(pricings(usage_prices), quantities, quantities, st.booleans())
def test_details_add_up_to_the_total(pricing: Pricing, before: Decimal, after: Decimal, closed: bool) -> None:
    """Exact amounts are the difference of the totals, and the minimum when the period closes."""
    use_exact()
    added = commitment(pricing, after) if closed else ZERO
    assert exact(details(pricing, after, period_closed=closed)) == total(pricing, after) + added
    difference = total(pricing, after) - total(pricing, before)
    assert exact(details(pricing, after, before, closed)) == difference + added


@settings(max_examples=repeats(300))
@given(pricings(usage_prices), st.lists(quantities, min_size=1, max_size=5))
def test_rounded_splits_add_up_to_the_rounded_whole(pricing: Pricing, cuts: list[Decimal]) -> None:
    """However the period is cut into lines, the invoices show together what a single line would show."""
    use_exact()
    last = cuts[-1]
    split = shown(details(pricing, cuts[0]))
    split += sum((shown(details(pricing, after, before)) for before, after in pairwise(cuts)), ZERO)
    split += shown(details(pricing, last, last, period_closed=True))
    assert split == shown(details(pricing, last, period_closed=True))


@given(pricings(usage_prices), quantities)
def test_what_is_shown_keeps_the_commitments(pricing: Pricing, usage: Decimal) -> None:
    """A closed period shows no less than its rounded minimum and no more than its rounded maximum."""
    assert not isinstance(pricing.price, Free | Flat)
    low, high = pricing.price.minimum_amount, pricing.price.maximum_amount
    amount = shown(details(pricing, usage, period_closed=True))
    assert low is None or amount >= round_minor(low, pricing.currency)
    assert high is None or amount <= round_minor(high, pricing.currency)


@given(pricings(usage_prices), quantities)
def test_every_shown_amount_is_in_minor_units(pricing: Pricing, usage: Decimal) -> None:
    """Gross, discounts and net are each whole minor units."""
    for row in details(pricing, usage, period_closed=True):
        for amount in (*row.minor, row.rounded):
            assert amount == round_minor(amount, pricing.currency)


@given(pricings(usage_prices), quantities)
def test_nothing_new_is_nothing_shown(pricing: Pricing, usage: Decimal) -> None:
    """A line without usage of its own has no details."""
    assert details(pricing, usage, usage) == []


def test_a_volume_tier_takes_back_what_the_tier_before_billed() -> None:
    """The corrected rows have negative quantities, with the flat part of the old tier among them."""
    pricing = Pricing(Volume((Tier(D(5), None, D(100)), Tier(None, D(10)))), "USD")
    rows = [(row.name, row.quantity, row.amount) for row in details(pricing, D(6), D(5))]
    assert rows == [("volume-tiered-price", D(6), D(60)), ("volume-flat-price", D(-1), D(-100))]


def test_a_maximum_is_a_discount_on_the_rows_that_pass_it() -> None:
    """The row that reaches the maximum is cut, and those after it cost nothing."""
    tiers = (Tier(D(10), D(10)), Tier(D(20), D(5)), Tier(None, D(1)))
    rows = details(Pricing(Graduated(tiers, maximum_amount=D(120)), "USD"), D(30))
    assert [(row.exact.maximum_discount, row.amount) for row in rows] == [
        (D(0), D(100)),
        (D(30), D(20)),
        (D(10), D(0)),
    ]


def test_a_maximum_binds_after_the_percentage() -> None:
    """Half of 100 and half of 50 are 75, of which a maximum of 60 leaves 50 and 10."""
    tiers = (Tier(D(10), D(10)), Tier(None, D(5)))
    pricing = Pricing(Graduated(tiers, maximum_amount=D(60)), "USD", None, Discounts(percentage=D(50)))
    rows = details(pricing, D(20))
    assert [row.exact.gross for row in rows] == [100, 50]
    assert [row.exact.percentage_discount for row in rows] == [50, 25]
    assert [row.exact.maximum_discount for row in rows] == [0, 15]
    assert exact(rows) == shown(rows) == 60


def test_a_percentage_is_rounded_on_each_detail() -> None:
    """A third off 1000 yen is 333 yen, so 667 are left."""
    rows = details(Pricing(Flat(D(1000)), "JPY", None, Discounts(percentage=D("33.333"))), ZERO)
    assert [(row.minor.discount, row.rounded) for row in rows] == [(D(333), D(667))]


def test_the_minimum_tops_up_what_was_rounded() -> None:
    """Two rows of 0.333 show 0.33 each, and the minimum of 1 fills up the rest to the cent."""
    tiers = (Tier(D(1), D("0.333")), Tier(None, D("0.333")))
    rows = details(Pricing(Graduated(tiers, minimum_amount=D(1)), "USD"), D(2), period_closed=True)
    assert [(row.category, row.amount, row.rounded) for row in rows] == [
        (Category.REGULAR, D("0.333"), D("0.33")),
        (Category.REGULAR, D("0.333"), D("0.33")),
        (Category.COMMITMENT, D("0.334"), D("0.34")),
    ]


def test_a_flat_price_is_due_once_at_its_end_of_the_period() -> None:
    """In advance on the first line, in arrears on the last."""
    advance, arrears = (Pricing(Flat(D(7), term), "USD") for term in PaymentTerm)
    lines = [(None, False), (ZERO, False), (ZERO, True)]
    assert [exact(details(advance, ZERO, *line)) for line in lines] == [7, 0, 0]
    assert [exact(details(arrears, ZERO, *line)) for line in lines] == [0, 0, 7]


def test_a_prorated_flat_price_is_rounded_at_its_detail() -> None:
    """Fourteen of 31 days of 5 dollars are 2.26, which only the detail says."""
    month = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
    amount = prorate(D(5), (month[0], datetime(2024, 1, 15, tzinfo=UTC)), month)
    (row,) = details(Pricing(Flat(amount), "USD"), ZERO)
    assert row.amount != row.rounded == D("2.26")


def test_a_free_price_has_no_details() -> None:
    """Free of charge is an empty line, even when the period closes."""
    assert details(Pricing(Free(), "USD"), D(100), period_closed=True) == []


def test_a_unit_price_is_never_rounded() -> None:
    """A detail shows the price as the rate card has it."""
    (row,) = details(Pricing(Unit(D("0.0000125")), "USD"), D(1_000_000))
    assert (row.unit_price, row.rounded) == (D("0.0000125"), D("12.5"))
