"""
Worked examples of OpenMeter's own test suite (`tests/vectors/openmeter.json`), run against our rules.

Where the two differ, our rule wins, and the vector is listed below with the reason.
"""

import json
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from rating.charge import billable_quantity, convert, packages, prorate, segment_at, tier_of, total
from rating.details import Category, Detail, details
from rating.money import ZERO, round_half_up, use_exact
from rating.prices import (
    Discounts,
    Dynamic,
    Flat,
    PaymentTerm,
    Price,
    Pricing,
    Rounding,
    Tier,
    Unit,
    Volume,
    conversion_from_v1,
    price_from_v1,
)

Vector = dict[str, Any]
D = Decimal

VECTORS: Final[list[Vector]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "openmeter.json").read_text(encoding="utf-8")
)["vectors"]

NOT_RUN_NAMES: Final = {
    "tiered volume, mid price": "a volume price is billed as it runs, not at the end of the period only",
    "progressive split converts each endpoint independently": "units are converted cumulatively",
    "split line: quantity and pre-quantity are rounded independently, not cumulatively": (
        "units are converted cumulatively"
    ),
    "credits mutator, errors when credits are not consumed fully": "belongs to the credit tests",
    "minimum commitment ignored when requested": "a period that is closed always owes its minimum",
}
NOT_RUN_GROUPS: Final = dict.fromkeys(
    (
        "credit_balance",
        "credit_collection_order",
        "credit_correction",
        "credit_expiry",
        "credit_feature_balance",
        "credit_lifecycle",
        "credit_pending",
        "entitlement_burndown",
    ),
    "belongs to the credit tests",
)


def reason_not_run(vector: Vector) -> str | None:
    """Why a vector is not run, None if it is."""
    return NOT_RUN_NAMES.get(vector["name"]) or NOT_RUN_GROUPS.get(vector["group"])


def vectors(*groups: str) -> pytest.MarkDecorator:
    """Run a test for each vector of the groups that is not listed."""
    found = [vector for vector in VECTORS if vector["group"] in groups and not reason_not_run(vector)]
    RUN.extend(found)
    return pytest.mark.parametrize("vector", found, ids=[f"{v['group']}: {v['name']}" for v in found])


RUN: Final[list[Vector]] = []


def price_of(written: Vector) -> Price:
    """The vectors' short form of a price, as the API writes it."""
    written = dict(written)
    if "tiers" in written:
        parts = (("unit", "unit_price"), ("flat", "flat_price"))
        written["tiers"] = [
            {"up_to_amount": tier["up_to"]} | {long: {"amount": tier[short]} for short, long in parts if short in tier}
            for tier in written["tiers"]
        ]
    if written.get("multiplier") == "DecimalOne":
        written["multiplier"] = "1"
    return price_from_v1(written)


def pricing_of(vector: Vector, price: Vector | None = None) -> Pricing:
    """All that the vector says about how usage becomes money."""
    written = vector.get("discounts", {})
    percentage, usage = written.get("percentage"), written.get("usage", written.get("usage_quantity"))
    return Pricing(
        price_of(price or vector["price"]),
        vector.get("currency", "USD"),
        conversion_from_v1(vector.get("unit_config")),
        Discounts(None if percentage is None else D(percentage), None if usage is None else D(usage)),
    )


def shown(rows: list[Detail], price: Price) -> list[tuple[Any, ...]]:
    """Details as the vectors have them, less those that show nothing but zeros."""
    found = []
    for row in rows:
        regular = row.category is Category.REGULAR
        unit = row.unit_price if row.flat_price is None else row.flat_price
        # A metered value that is money is upstream one of itself; here it is a quantity times its multiplier.
        quantity, unit = (None, None) if isinstance(price, Dynamic) and regular else (row.quantity, unit)
        gross = row.minor.gross if regular else ZERO
        charges = ZERO if regular else row.minor.gross
        figures = (gross, charges, row.minor.percentage_discount, row.minor.maximum_discount, row.rounded)
        if any(figures):
            found.append((row.name, str(row.category), quantity, unit, *figures))
    return sorted(found, key=str)


def expected(lines: list[Vector], price: Price) -> list[tuple[Any, ...]]:
    """The vector's lines in the form of `shown`; credits are not taken off yet."""
    found = []
    for line in lines:
        regular = line.get("category", "regular") == "regular"
        quantity, unit = D(line["qty"]), D(line["unit_amount"])
        by_kind = {discount["kind"]: D(discount["amount"]) for discount in line.get("amount_discounts", ())}
        discount = D(line.get("discounts_total", 0))
        percentage = by_kind.get("ratecard_percentage", ZERO)
        figures = (
            D(line["amount"]),
            D(line.get("charges_total", 0)),
            percentage,
            discount - percentage,
            D(line["total"]) + D(line.get("credits_total", 0)),
        )
        if any(figures):
            name = line["ref"].partition("#")[0]
            as_money = isinstance(price, Dynamic) and regular
            sides = (None, None) if as_money else (quantity, unit)
            found.append((name, line.get("category", "regular"), *sides, *figures))
    return sorted(found, key=str)


def totals(rows: list[Detail]) -> dict[str, Decimal]:
    """The line's totals as the vectors have them."""
    regular = [row for row in rows if row.category is Category.REGULAR]
    return {
        "amount": sum((row.minor.gross for row in regular), ZERO),
        "charges_total": sum((row.minor.gross for row in rows if row not in regular), ZERO),
        "discounts_total": sum((row.minor.discount for row in rows), ZERO),
        "total": sum((row.rounded for row in rows), ZERO),
    }


def expected_totals(written: Vector) -> dict[str, Decimal]:
    """The vector's totals, with the zeros it leaves out."""
    return {key: D(written.get(key, 0)) for key in ("amount", "charges_total", "discounts_total", "total")}


@vectors("line_rating")
def test_a_line_has_the_details_that_upstream_rates(vector: Vector) -> None:
    """Names, quantities, unit prices, discounts and rounded amounts of each detail."""
    pricing = pricing_of(vector)
    before, now = D(vector["pre_usage"]), D(vector["line_usage"])
    closed = vector["line_mode"] != "mid_period_split"
    # Upstream bills a volume price in the last split alone, so nothing was billed before it. Of any other
    # price the first split has billed what is owed at zero usage.
    first = vector["line_mode"] == "single" or (before == 0 and now > 0)
    if isinstance(pricing.price, Volume | Flat):
        first = True
    rows = details(pricing, before + now, None if first else before, closed)
    assert shown(rows, pricing.price) == expected(vector["expected"], pricing.price)


@vectors("delta_rating")
def test_a_later_line_is_the_difference_to_what_was_billed(vector: Vector) -> None:
    """Each phase books what changed since the phase before, corrections and rounding included."""
    pricing = pricing_of(vector)
    before: Decimal | None = None
    for phase in vector["phases"]:
        after = D(phase["cumulative_usage"])
        rows = details(pricing, after, before)
        assert shown(rows, pricing.price) == expected(phase["expected"], pricing.price)
        assert totals(rows) == expected_totals(phase["expected_totals"])
        before = after


@vectors("period_preserving_rating")
def test_late_usage_comes_to_the_same_whatever_period_it_is_shown_in(vector: Vector) -> None:
    """Upstream spreads corrections over the lines they correct; together they are our difference."""
    pricing = pricing_of(vector)
    before: Decimal | None = None
    for phase in vector["phases"]:
        after = D(phase["cumulative_usage_per_period"][-1])
        rows = details(pricing, after, before, phase is vector["phases"][-1])
        assert totals(rows) == expected_totals(phase["expected_totals"])
        before = after


@vectors("cumulative_subtract")
def test_two_snapshots_of_a_period_subtract_detail_by_detail(vector: Vector) -> None:
    """The newer snapshot closes the period, the older one did not."""
    pricing = pricing_of(vector)
    after, before = D(vector["new_cumulative_usage"]), D(vector["previous_cumulative_usage"])
    rows = details(pricing, after, before, period_closed=True)
    assert shown(rows, pricing.price) == expected(vector["expected"], pricing.price)
    assert totals(rows) == expected_totals(vector["expected_totals"])


@vectors("package_count")
def test_packages_are_counted(vector: Vector) -> None:
    """A package that is begun counts."""
    (answer,) = vector["expected"]
    assert packages(D(vector["usage"]), D(vector["quantity_per_package"])) == D(answer["packages"])


@vectors("graduated_totals")
def test_a_graduated_total_is_the_sum_over_its_tiers(vector: Vector) -> None:
    """At zero usage, on a bound, and in the open tier."""
    (answer,) = vector["expected"]
    assert total(pricing_of(vector), D(vector["usage"])) == D(answer["total_amount"])


@vectors("graduated_ranges")
def test_a_range_of_usage_falls_into_tiers(vector: Vector) -> None:
    """Walking from segment to segment meets each tier with its share of the range."""
    pricing = pricing_of(vector)
    at, end = D(vector["from_exclusive"]), D(vector["to_inclusive"])
    assert total(pricing, end) == D(vector["expected_total_at_to"])
    found = []
    while at < end:
        segment = segment_at(pricing, at + D("0.001"))
        until = end if segment.until is None else min(end, segment.until)
        found.append((until - at, at == segment.start, total(pricing, at)))
        at = until
    assert found == [
        (D(part["qty"]), part["at_tier_boundary"], D(part["previous_total"])) for part in vector["expected"]
    ]


@vectors("volume_tier_lookup")
def test_a_quantity_finds_its_volume_tier(vector: Vector) -> None:
    """Bounds are inclusive."""
    bounds = [None if bound is None else D(bound) for bound in vector["bounds_inclusive"]]
    tiers = tuple(Tier(bound, ZERO) for bound in bounds)
    (answer,) = vector["expected"]
    tier, _ = tier_of(tiers, D(vector["usage"]))
    assert tiers.index(tier) + 1 == answer["tier_number_1_based"]


@vectors("usage_discount")
def test_free_units_are_the_first_of_the_period(vector: Vector) -> None:
    """What is left of them falls on the line in which they are used up."""
    pricing = Pricing(Unit(D(1)), "USD", None, Discounts(usage=D(vector["discount_quantity"])))
    before, now = D(vector["pre_usage"]), D(vector["line_usage"])
    net_before, net_after = billable_quantity(pricing, before), billable_quantity(pricing, before + now)
    (answer,) = vector["expected"]
    assert net_before == D(answer["net_pre_qty"])
    assert net_after - net_before == D(answer["net_line_qty"]) == now - D(answer["applied_this_line"])


@vectors("unit_config")
def test_units_are_converted_then_rounded(vector: Vector) -> None:
    """The conversion alone is exact; what is invoiced is rounded to its precision."""
    use_exact()
    conversion = conversion_from_v1(vector["unit_config"])
    assert conversion is not None
    unrounded = conversion_from_v1(vector["unit_config"] | {"rounding": Rounding.NONE.value})
    assert unrounded is not None
    (answer,) = vector["expected"]
    assert convert(unrounded, D(vector["usage"])) == D(answer["converted"])
    assert convert(conversion, D(vector["usage"])) == D(answer["invoiced"])


@vectors("rounding")
def test_amounts_round_half_away_from_zero(vector: Vector) -> None:
    """To the digits of the currency."""
    (answer,) = vector["expected"]
    assert round_half_up(D(vector["amount"]), vector["precision"]) == D(answer["rounded"])


@vectors("progressive_discount")
def test_free_units_run_across_progressive_invoices(vector: Vector) -> None:
    """Only what is above the free units of the period is billed."""
    pricing = pricing_of(vector)
    before, now = D(vector["pre_usage"]), D(vector["line_usage"])
    net_before = billable_quantity(pricing, before)
    (answer,) = vector["expected"]
    assert net_before == D(answer["billed_pre_qty"])
    assert billable_quantity(pricing, before + now) - net_before == D(answer["billed_qty"])
    rows = [(row.quantity, row.unit_price) for row in details(pricing, before + now, before)]
    assert rows == [(D(row["qty"]), D(row["unit_amount"])) for row in answer.get("detailed", [])]


@vectors("progressive_invoices")
def test_progressive_invoices_come_to_what_upstream_bills(vector: Vector) -> None:
    """A maximum that was reached, a minimum at the close, and tiers across two invoices."""
    closed = "expected_invoice" in vector
    invoice = dict.fromkeys(("amount", "charges_total", "discounts_total", "total"), ZERO)
    for line, answer in zip(vector["lines"], vector["expected"], strict=True):
        pricing = pricing_of(vector, vector["prices"][line["price"]])
        # The unit line says only what was billed: its maximum, which 20 units reach.
        reached = D(line.get("previously_billed_amount", 0)) / 100
        before = D(line.get("pre_usage", reached))
        now = D(line.get("line_usage", 0))
        rows = details(pricing, before + now, before or None, closed)
        found = totals(rows)
        assert all(found[key] == D(answer[key]) for key in found if key in answer)
        if "detail" in answer:
            assert [(row.quantity, row.unit_price) for row in rows] == [
                (D(row["qty"]), D(row["unit_amount"])) for row in answer["detail"]
            ]
        invoice = {key: invoice[key] + found[key] for key in invoice}
    if closed:
        assert invoice == expected_totals(vector["expected_invoice"])


@vectors("graduated_flat_progressive")
def test_a_flat_part_is_billed_in_the_split_that_enters_its_tier(vector: Vector) -> None:
    """The first tier's at zero usage in the first split, and never again."""
    pricing = pricing_of(vector)
    ends = [sum((D(phase["line_usage"]) for phase in vector["phases"][:count]), ZERO) for count in range(4)]
    billed = ZERO
    for number, (phase, (before, after)) in enumerate(zip(vector["phases"], pairwise(ends), strict=True)):
        rows = details(pricing, after, before if number else None)
        assert totals(rows)["total"] == D(phase["expected_total"])
        found = {(row.name, row.quantity, row.unit_price or row.flat_price) for row in rows}
        for part in phase.get("detail", []):
            suffix, count = ("price-usage", "qty") if part["kind"] == "usage" else ("flat-price", "")
            price = D(part.get("unit_amount", part.get("amount", 0)))
            key = (f"graduated-tiered-{part['tier']}-{suffix}", D(part.get(count, 1)), price)
            assert key in found or key[1] == 0
        billed += totals(rows)["total"]
    assert billed == D(vector["expected"][0]["total"])


@vectors("proration")
def test_a_flat_price_is_prorated_by_exact_duration(vector: Vector) -> None:
    """Rounded at its detail, once."""
    price = price_of(vector["price"])
    assert isinstance(price, Flat)
    start, end = (datetime.fromisoformat(at) for at in vector["service_period"])
    full_start, full_end = (datetime.fromisoformat(at) for at in vector["full_period"])
    amount = prorate(price.amount, (start, end), (full_start, full_end))
    rows = details(Pricing(Flat(amount, PaymentTerm.IN_ADVANCE), "USD"), ZERO)
    assert totals(rows)["total"] == D(vector["expected"][0]["total"])


@vectors("min_commit_totals")
def test_a_final_snapshot_reaches_the_minimum(vector: Vector) -> None:
    """What usage did not come to is added when the period closes."""
    rows = details(pricing_of(vector), D(vector["usage"]), period_closed=True)
    assert totals(rows)["total"] == D(vector["expected"][0]["total"])


def test_every_vector_is_run_or_listed_with_a_reason() -> None:
    """None is forgotten, none is both, and what is listed exists."""
    for vector in VECTORS:
        assert (vector in RUN) != bool(reason_not_run(vector)), vector["name"]
    assert set(NOT_RUN_NAMES) <= {vector["name"] for vector in VECTORS}
    assert set(NOT_RUN_GROUPS) <= {vector["group"] for vector in VECTORS}
