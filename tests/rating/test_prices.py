"""Reading prices, writing them, and what is said about those that make no sense."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given

from rating.prices import (
    Discounts,
    Dynamic,
    Flat,
    Free,
    Graduated,
    Operation,
    Package,
    PaymentTerm,
    Price,
    PriceError,
    Pricing,
    Rounding,
    Tier,
    Unit,
    UnitConversion,
    Volume,
    conversion_from_v1,
    conversion_to_v1,
    discounts_from_v1,
    discounts_to_v1,
    price_from_v1,
    price_to_v1,
)
from tests.rating.strategies import prices, pricings

D = Decimal
UNIT = {"type": "unit", "amount": "1"}
FLAT = {"type": "flat", "amount": "2"}


@pytest.mark.parametrize(
    ("written", "price"),
    [
        (None, Free()),
        ({"type": "free"}, Free()),
        ({"type": "flat", "amount": "5"}, Flat(D(5))),
        ({"type": "flat", "amount": 5, "paymentTerm": "in_arrears"}, Flat(D(5), PaymentTerm.IN_ARREARS)),
        (
            UNIT | {"minimumAmount": "1", "maximumAmount": D("2.5")},
            Unit(D(1), minimum_amount=D(1), maximum_amount=D("2.5")),
        ),
        (UNIT | {"maximum_amount": None}, Unit(D(1))),
        (
            {
                "type": "tiered",
                "mode": "graduated",
                "tiers": [{"upToAmount": "10", "unitPrice": UNIT, "flatPrice": None}, {"flatPrice": FLAT}],
            },
            Graduated((Tier(D(10), D(1)), Tier(None, None, D(2)))),
        ),
        ({"type": "tiered", "mode": "volume", "tiers": [{"unitPrice": UNIT}]}, Volume((Tier(None, D(1)),))),
        ({"type": "volume", "tiers": [{"unit_price": {"amount": "1"}}]}, Volume((Tier(None, D(1)),))),
        ({"type": "package", "amount": "15", "quantityPerPackage": "10"}, Package(D(15), D(10))),
        ({"type": "dynamic"}, Dynamic(D(1))),
        ({"type": "dynamic", "multiplier": "1.5"}, Dynamic(D("1.5"))),
    ],
)
def test_a_price_is_read_from_the_shape_of_the_api(written: Any, price: Price) -> None:
    """Decimals are strings, integers or exact decimals; v3's names are understood too."""
    assert price_from_v1(written) == price


def tiered(*tiers: Any) -> dict[str, Any]:
    """A graduated price of the given tiers."""
    return {"type": "tiered", "mode": "graduated", "tiers": list(tiers)}


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("free", "$.price"),
        ({}, "$.price.type"),
        ({"type": "matrix"}, "$.price.type"),
        ({"type": "unit"}, "$.price.amount"),
        ({"type": "unit", "amount": "-1"}, "$.price.amount"),
        ({"type": "unit", "amount": 0.1}, "$.price.amount"),
        ({"type": "unit", "amount": True}, "$.price.amount"),
        ({"type": "unit", "amount": "NaN"}, "$.price.amount"),
        ({"type": "unit", "amount": "1e999999"}, "$.price.amount"),
        ({"type": "unit", "amount": D("Infinity")}, "$.price.amount"),
        ({"type": "unit", "amount": 10**100}, "$.price.amount"),
        (UNIT | {"maxAmount": "1"}, "$.price.maxAmount"),
        (UNIT | {"minimumAmount": "2", "maximumAmount": "1"}, "$.price.minimumAmount"),
        (UNIT | {"minimum_amount": "2", "maximum_amount": "1"}, "$.price.minimum_amount"),
        (UNIT | {"minimumAmount": "2", "minimum_amount": "2"}, "$.price"),
        ({"type": "flat", "amount": "1", "paymentTerm": "never"}, "$.price.paymentTerm"),
        ({"type": "package", "amount": "1", "quantityPerPackage": "0"}, "$.price.quantityPerPackage"),
        ({"type": "tiered", "tiers": []}, "$.price.mode"),
        (tiered(), "$.price.tiers"),
        (tiered({"upToAmount": "1", "unitPrice": UNIT}), "$.price.tiers[0].upToAmount"),
        (tiered({"unitPrice": UNIT}, {"unitPrice": UNIT}), "$.price.tiers[0].upToAmount"),
        (tiered({"upToAmount": "0", "unitPrice": UNIT}, {"unitPrice": UNIT}), "$.price.tiers[0].upToAmount"),
        (
            tiered(
                {"up_to_amount": "2", "unitPrice": UNIT},
                {"up_to_amount": "2", "unitPrice": UNIT},
                {"unitPrice": UNIT},
            ),
            "$.price.tiers[1].up_to_amount",
        ),
        (tiered({"upToAmount": None}), "$.price.tiers[0]"),
        (tiered({"unitPrice": FLAT}), "$.price.tiers[0].unitPrice.type"),
        (tiered({"flatPrice": {"type": "flat", "amount": "x"}}), "$.price.tiers[0].flatPrice.amount"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused_at_its_path(written: Any, path: str) -> None:
    """The error names the path, and says what to write instead."""
    with pytest.raises(PriceError) as caught:
        price_from_v1(written)
    assert caught.value.path == path
    assert f"`{path}`" in caught.value.message
    assert str(caught.value).endswith(f"\nhint: {caught.value.hint}")


def test_an_error_says_what_was_expected_and_what_was_got() -> None:
    """Both are in the first line, what to do in the second."""
    with pytest.raises(PriceError) as caught:
        price_from_v1(tiered({"upToAmount": "x" * 1000, "unitPrice": UNIT}, {"unitPrice": UNIT}))
    first, hint = str(caught.value).split("\n")
    assert first == f'`$.price.tiers[0].upToAmount`: expected a decimal of 0 or more, got "{"x" * 40}…"'
    assert hint.startswith("hint: write a decimal string")


@pytest.mark.parametrize(
    ("written", "discounts"),
    [
        (None, Discounts()),
        ({"percentage": {"percentage": "10"}, "usage": {"quantity": "5"}}, Discounts(D(10), D(5))),
        ({"percentage": "10", "usage": 5}, Discounts(D(10), D(5))),
        ({"usage": None}, Discounts()),
    ],
)
def test_discounts_are_read_in_both_forms(written: Any, discounts: Discounts) -> None:
    """Wrapped as in v1, or as decimals alone."""
    assert discounts_from_v1(written) == discounts


@pytest.mark.parametrize("written", [{"percentage": "100.1"}, {"percentage": {"percentage": "-1"}}, {"fixed": "1"}])
def test_a_discount_out_of_range_is_refused(written: Any) -> None:
    """A percentage is 0 to 100."""
    with pytest.raises(PriceError, match=r"\$\.discounts\."):
        discounts_from_v1(written)


def test_a_unit_conversion_is_read_in_both_cases() -> None:
    """camelCase and snake_case mean the same."""
    camel = {"operation": "divide", "conversionFactor": "1000", "rounding": "ceiling", "displayUnit": "k"}
    snake = {"operation": "divide", "conversion_factor": 1000, "rounding": "ceiling", "display_unit": "k"}
    expected = UnitConversion(Operation.DIVIDE, D(1000), Rounding.CEILING, 0, "k")
    assert conversion_from_v1(camel) == conversion_from_v1(snake) == expected


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"conversionFactor": "0"}, "$.unitConfig.conversionFactor"),
        ({"operation": "add"}, "$.unitConfig.operation"),
        ({"precision": -1}, "$.unitConfig.precision"),
        ({"precision": "2"}, "$.unitConfig.precision"),
        ({"displayUnit": 1}, "$.unitConfig.displayUnit"),
    ],
)
def test_a_unit_conversion_that_makes_no_sense_is_refused(change: Any, path: str) -> None:
    """A factor is above 0, a precision a small integer."""
    with pytest.raises(PriceError) as caught:
        conversion_from_v1({"operation": "divide", "conversionFactor": "10"} | change)
    assert caught.value.path == path


@given(pricings(prices))
def test_what_is_written_reads_back(pricing: Pricing) -> None:
    """The API's shape loses nothing."""
    assert price_from_v1(price_to_v1(pricing.price)) == pricing.price
    assert discounts_from_v1(discounts_to_v1(pricing.discounts)) == pricing.discounts
    assert conversion_from_v1(conversion_to_v1(pricing.conversion)) == pricing.conversion


@given(pricings(prices))
def test_a_pricing_survives_being_stored(pricing: Pricing) -> None:
    """As JSON and as MessagePack."""
    for codec in (msgspec.json, msgspec.msgpack):
        assert codec.decode(codec.encode(pricing), type=Pricing) == pricing
