"""
Worked examples from other systems' tests and documents (`tests/vectors/peers.json`), run against our rules.

Where a model is not ours by name but can be said with ours, it is: blocks of one size are a unit conversion,
a percentage of the value is a unit price. What cannot is listed below with the reason.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from rating.charge import total
from rating.details import details
from rating.money import ONE, ZERO, round_half_up, use_exact
from rating.prices import (
    Discounts,
    Dynamic,
    Flat,
    Graduated,
    Operation,
    Package,
    Pricing,
    Rounding,
    Tier,
    Unit,
    UnitConversion,
    Volume,
)

Vector = dict[str, Any]
D = Decimal

VECTORS: Final[list[Vector]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "peers.json").read_text(encoding="utf-8")
)["vectors"]

NOT_RUN_KINDS: Final = {
    "aggregation": "belongs to the tests of aggregations",
    "commitment": "a commitment is an amount per billing period, never per window or with an overage factor",
    "invoice": "belongs to the tests of invoices; there are no thresholds",
    "price_prorated": "events are not prorated by the time they were in force",
    "reservation": "belongs to the credit tests",
    "session": "there is no price by time of day, with connection fees or rounding per increment",
    "wallet": "belongs to the credit tests",
    "window": "belongs to the tests of windows and billing periods",
}
NOT_RUN_MODELS: Final = {
    "percentage": "there is no price by event count besides the value",
    "percentage_min_max_per_event": "there is no minimum or maximum per event",
    "capacity_tier": "a price has one metered value, not the tiers of several",
    "minimum_spend_prorated": "only flat prices are prorated",
    "graduated_signed": "negative usage is refused",
    "volume_signed": "negative usage is refused",
    "fixed_discount": "there are no discounts of a fixed amount",
    "distribute_discount": "there are no discounts of a fixed amount",
}
NOT_RUN_NAMES: Final = {
    "package rounding down 50": "a package that is begun is paid whole",
    "package rounding down 250": "a package that is begun is paid whole",
    "graduated past bounded last tier bills covered units": "the last tier never ends",
    "volume past bounded last tier is an error": "the last tier never ends",
    "tier cap 3, usage 5": "a maximum is for the price, not for a tier",
    "capped tiers 200 GB-hr (derived)": "a maximum is for the price, not for a tier",
    "capped tiers 30 GB-hr (derived)": "a maximum is for the price, not for a tier",
    "ALL_TIERS blocks 100/1000, 5325 units": "tiers have no packages inside, least of all of different sizes",
    "ALL_TIERS unlimited last tier 5325": "tiers have no packages inside, least of all of different sizes",
    "TOP_TIER blocks 101001": "tiers have no packages inside, least of all of different sizes",
    "TOP_TIER blocks 1000": "tiers have no packages inside, least of all of different sizes",
    "TOP_TIER blocks 300000": "tiers have no packages inside, least of all of different sizes",
}


def reason_not_run(vector: Vector) -> str | None:
    """Why a vector is not run, None if it is."""
    return NOT_RUN_KINDS.get(vector["kind"]) or NOT_RUN_MODELS.get(vector["model"]) or NOT_RUN_NAMES.get(vector["name"])


RUN: Final = [vector for vector in VECTORS if not reason_not_run(vector)]


def usd(price: Any, conversion: UnitConversion | None = None, free: Decimal | None = None) -> Pricing:
    """A pricing in dollars."""
    return Pricing(price, "USD", conversion, Discounts(usage=free))


def tiers_of(written: list[Vector], scale: Decimal = ONE) -> tuple[Tier, ...]:
    """The vectors' tiers; a last one that ends beyond the usage is left open."""
    found = []
    for tier in written:
        bound = None if tier is written[-1] or tier["up_to"] is None else D(tier["up_to"]) / scale
        rate = D(tier["rate_percent"]) / 100 if "rate_percent" in tier else D(tier["unit_amount"]) * scale
        found.append(Tier(bound, rate, D(tier["flat_amount"]) if "flat_amount" in tier else None))
    return tuple(found)


def tiered(kind: Callable[[tuple[Tier, ...]], Graduated | Volume], params: Vector) -> Pricing:
    """Tiers of units; rounded up to a billing unit, they are tiers of that unit."""
    size = D(params.get("round_usage_up_to", 1))
    conversion = UnitConversion(Operation.DIVIDE, size, Rounding.CEILING) if size != 1 else None
    return usd(kind(tiers_of(params["tiers"], size)), conversion)


def blocks(kind: Callable[[tuple[Tier, ...]], Graduated | Volume], rows: list[Any]) -> Pricing:
    """Tiers of blocks, (size, at most so many, price), all of one size: the units are blocks begun."""
    rows = [
        (row["block_size"], row["max_blocks"], row["block_price"]) if isinstance(row, dict) else row for row in rows
    ]
    (size,) = {D(row[0]) for row in rows}
    bounds = [sum((D(row[1] or 0) for row in rows[: count + 1]), ZERO) for count in range(len(rows) - 1)]
    tiers = tuple(Tier(bound, D(row[2])) for bound, row in zip([*bounds, None], rows, strict=True))
    return usd(kind(tiers), UnitConversion(Operation.DIVIDE, size, Rounding.CEILING))


def package(params: Vector) -> Pricing:
    """Packages, with the free units as a usage discount."""
    free = D(params["free_units"]) if "free_units" in params else None
    return usd(Package(D(params["package_amount"]), D(params["package_size"])), free=free)


def cost(vector: Vector) -> Decimal:
    """What our rules make of the vector."""
    params, usage, model = vector["params"], vector["usage"], vector["model"].removeprefix("windowed_")
    kind = Graduated if model.startswith("graduated") else Volume
    before = D(0)
    match model:
        case "percent_discount":
            discounts = Discounts(percentage=D(params["percent"]))
            rows = details(Pricing(Flat(D(usage)), params["currency"].upper(), None, discounts), ZERO)
            return sum((row.rounded for row in rows), ZERO)
        case "graduated_blocks_multi" | "volume_blocks_multi" | "graduated_blocks_delta" if isinstance(usage, dict):
            billed = sum((D(amount) for amount in params.get("already_billed", {}).values()), ZERO)
            return sum((total(blocks(kind, params[unit]), D(used)) for unit, used in usage.items()), -billed)
        case "graduated_blocks" | "volume_blocks" | "graduated_blocks_delta":
            return total(blocks(kind, params["tiers"]), D(usage)) - D(params.get("already_billed", 0))
        case "unit_delta":
            digits = int(params["round"].split()[1])
            return round_half_up(total(usd(Unit(D(params["unit_amount"]))), D(usage)), digits) - D(
                params["already_billed"]
            )
        case "unit" | "unit_grouped":
            pricing = usd(Unit(D(params["unit_amount"])))
        case "unit_in_pricing_unit":
            rate = UnitConversion(Operation.MULTIPLY, D(params["conversion_rate"]))
            pricing = usd(Unit(D(params["unit_amount_in_credits"])), rate)
        case "dynamic":
            pricing, usage = usd(Dynamic(D("0.01"))), params["precise_total_amount_cents"]
        case "package":
            pricing = package(params)
        case _:
            pricing = tiered(kind, params)
            before = D(params.get("cumulative_before", 0))
    charged_before = total(pricing, before) if before else ZERO
    parts = usage if isinstance(usage, list) else [usage]
    return sum((total(pricing, before + D(part)) for part in parts), ZERO) - charged_before


@pytest.mark.parametrize("vector", RUN, ids=[f"{v['system']}: {v['name']}" for v in RUN])
def test_other_systems_come_to_the_same(vector: Vector) -> None:
    """The same total, or another one where the vector shows a mistake."""
    use_exact()
    assert (cost(vector) != D(vector["expected_total"])) is vector.get("must_not_match", False)


def test_every_vector_is_run_or_listed_with_a_reason() -> None:
    """What is listed exists, and no kind, model or name is listed in vain."""
    assert set(NOT_RUN_KINDS) <= {vector["kind"] for vector in VECTORS}
    assert set(NOT_RUN_MODELS) <= {vector["model"] for vector in VECTORS}
    assert set(NOT_RUN_NAMES) <= {vector["name"] for vector in VECTORS}
    assert {vector["kind"] for vector in RUN} == {"price", "price_windowed", "discount"}
